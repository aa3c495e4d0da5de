//! The kernels through the real compiler, which needs no GPU: only `libnvrtc`.

use crate::cuda::kernels::{KERNELS, source};
use crate::cuda::libraries::Nvrtc;
use crate::cuda::nvrtc::{Target, compile, cubin};

/// The compiler, or nothing, said loudly.
fn compiler(test: &str) -> Option<Nvrtc> {
    Nvrtc::load().inspect_err(|error| eprintln!("skipped: {test}: {error}")).ok()
}

#[test]
fn kernels_compile_without_spilling_registers() {
    let Some(nvrtc) = compiler("kernels_compile_without_spilling_registers") else { return };
    for architecture in ["sm_80", "sm_90"] {
        let (code, log) = compile(&nvrtc, &source(), architecture, Target::Cubin).unwrap();
        assert!(code.starts_with(b"\x7fELF"), "machine code is an ELF file");
        let reports: Vec<_> = log.lines().filter(|line| line.contains("spill stores")).collect();
        assert_eq!(reports.len(), KERNELS.len(), "a report for every kernel:\n{log}");
        for report in reports {
            let clean = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
            assert!(report.contains(clean), "{architecture}: {report}\n{log}");
        }
    }
}

#[test]
fn assembler_has_tensor_core_instructions_and_wide_accesses() {
    let Some(nvrtc) = compiler("assembler_has_tensor_core_instructions_and_wide_accesses") else { return };
    let (code, _) = compile(&nvrtc, &source(), "compute_80", Target::Ptx).unwrap();
    let text = String::from_utf8(code).unwrap();
    for kernel in KERNELS {
        assert!(text.contains(&format!(".entry {kernel}(")), "{kernel} is not there");
    }
    for instruction in
        ["mma.sync.aligned.m16n8k16", "ldmatrix.sync", "ld.global.v4", "st.global.v4", "cvt.rn.bf16x2.f32"]
    {
        assert!(text.contains(instruction), "no {instruction}");
    }
    assert!(!text.contains(".local"), "an array that is indexed at run time lies in local memory");
}

#[test]
fn machine_code_comes_from_the_cache_the_second_time() {
    let Some(nvrtc) = compiler("machine_code_comes_from_the_cache_the_second_time") else { return };
    let text = "extern \"C\" __global__ void nothing() {}";
    let folder = tempfile::tempdir().unwrap();
    let get = || cubin(&nvrtc, text, "sm_80", Some(folder.path().to_owned())).unwrap();
    let first = get();
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read(&file).unwrap(), first);
    std::fs::write(&file, "from the cache").unwrap();
    assert_eq!(get(), b"from the cache");
}

#[test]
fn a_broken_kernel_is_an_error_with_the_compilers_words() {
    let Some(nvrtc) = compiler("a_broken_kernel_is_an_error_with_the_compilers_words") else { return };
    let error = compile(&nvrtc, "__global__ void f() { nonsense; }", "sm_80", Target::Ptx).unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
}
