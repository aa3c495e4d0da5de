//! The whole engine, host code and kernels, on the emulated device against the CPU engine.

use std::sync::Arc;

use super::checks;
use super::device::Device;
use super::emulated::Emulated;

mod compile;
mod driver;
mod passes;
mod training;

#[test]
fn every_operation_agrees_with_the_cpu() {
    let Some(device) = Emulated::open("every_operation_agrees_with_the_cpu") else { return };
    let device: Arc<dyn Device> = device;
    let checks = checks::run(&device, 1);
    for check in &checks {
        eprintln!("{:50} {:?} of {:.0e}", check.name, check.error, check.bound);
    }
    let failed: Vec<_> = checks.iter().filter(|check| !check.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
