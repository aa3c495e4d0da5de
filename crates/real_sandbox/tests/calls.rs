//! Honest programs.

use real_sandbox::{Action, Config, Ending, Job, Limits, Sandbox, Value};

#[test]
fn a_call_returns_its_value() {
    let sandbox = Sandbox::start(Config::default()).expect("python3 on PATH and every protection");
    let job = Job {
        prelude: String::new(),
        program: "def f(a):\n    return a + 1\n".to_owned(),
        files: vec![],
        action: Action::Call {
            entry_point: "f".to_owned(),
            args: vec![Value::Int("2".to_owned())],
            kwargs: vec![],
        },
        collect: vec![],
        limits: Limits::default(),
    };
    assert_eq!(sandbox.run(&job).unwrap().ending, Ending::Returned(Value::Int("3".to_owned())));
}
