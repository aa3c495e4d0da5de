//! The calls of the driver and of cuBLAS, on a pretended driver that looks at their arguments.

#![expect(unsafe_code, reason = "the pretended driver is a shared library")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use libloading::Library;

use super::passes::{configs, model, prompts};
use crate::cuda::checks;
use crate::cuda::device::Device;
use crate::cuda::emulated::{Emulated, library};
use crate::cuda::gpu::Gpu;
use crate::cuda::libraries::{Cublas, Driver};
use crate::cuda::{Engine, Error, Purpose};
use crate::{Generated, Sampling};

fn open(path: &Path, ordinal: usize) -> Result<Gpu, Error> {
    // SAFETY: the library has no initialisers.
    let load = || unsafe { Library::new(path) }.unwrap();
    let (driver, cublas) = (Driver::of(load()).unwrap(), Cublas::of(load()).unwrap());
    Gpu::with(driver, cublas, ordinal, |architecture| {
        assert_eq!(architecture, "sm_90");
        Ok(vec![0])
    })
}

fn complete(device: Arc<dyn Device>) -> Vec<Generated> {
    let mut engine = Engine::on(device, &model(&configs()[1]), Purpose::Scoring).unwrap();
    let sampling = Sampling { temperature: 0.0, max_new_tokens: 20, batch: 3, ..Sampling::default() };
    engine.generate(&prompts()[..3], &sampling, |_, _| ControlFlow::Continue(()), |_, _| ()).unwrap()
}

/// One test, as the pretended driver has one stream.
#[test]
fn calls_are_as_the_driver_wants_them() {
    let Some(path) = library("calls_are_as_the_driver_wants_them") else { return };
    let device: Arc<dyn Device> = Arc::new(open(path, 0).unwrap());
    assert_eq!(device.description(), "pretended GPU, compute capability 9.0, 132 multiprocessors");

    let checks = checks::run(&device, 1);
    let failed: Vec<_> = checks.iter().filter(|check| !check.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");

    let emulated = Emulated::open("calls_are_as_the_driver_wants_them").expect("it was compiled before");
    let (ours, theirs) = (complete(device.clone()), complete(emulated));
    let ids = |all: &[Generated]| all.iter().map(|completion| completion.ids.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&ours), ids(&theirs));

    // Another thread has no context until a call makes one current.
    let elsewhere = std::thread::spawn(move || device.allocate(16).map(|address| device.free(address, 16)));
    elsewhere.join().unwrap().unwrap();

    let error = open(path, 3).unwrap_err().to_string();
    assert!(error.contains("number 3 of 1 devices"), "{error}");
}

#[test]
fn a_machine_without_a_gpu_says_what_to_install() {
    match Gpu::open(0) {
        Ok(gpu) => {
            eprintln!("skipped: a_machine_without_a_gpu_says_what_to_install: here is {}", gpu.description());
        }
        Err(Error::MissingLibrary { library, advice, .. }) => {
            assert!(library.starts_with("lib") && !advice.is_empty());
        }
        Err(error) => assert!(matches!(error, Error::NoDevice(_) | Error::Call { .. }), "{error}"),
    }
}
