"""SkyRL's trainer with our environment, which has to be registered where the trainer runs: in a Ray task, and not in this process."""

import hydra
import ray
from skyrl_train.entrypoints.main_base import BasePPOExp, config_dir, validate_cfg
from skyrl_train.utils import initialize_ray


@ray.remote(num_cpus=1)
def train(config):
    from skyrl_gym.envs import register

    register(id="real", entry_point="real.integrations.skyrl:RealEnv")
    BasePPOExp(config).run()


@hydra.main(config_path=config_dir, config_name="ppo_base_config", version_base=None)
def main(config):
    validate_cfg(config)
    initialize_ray(config)
    ray.get(train.remote(config))


if __name__ == "__main__":
    main()
