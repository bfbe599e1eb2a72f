//! Places at which a test build may be told to die, as by `kill -9`.
//!
//! A point costs nothing unless the feature `failpoints` is on. With it, the environment variable `FAILPOINTS` names
//! points and what they do, in the syntax of the crate `fail`: `cmd.after_commit=3*off->return` lets three passes go
//! and ends the process at the fourth.

/// Ends the process here, without unwinding and without destructors, when `FAILPOINTS` says so; with a condition,
/// only passes that meet it are counted. The condition is not evaluated in a build without the feature.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::crash::pass($name)
    };
    ($name:literal, if $condition:expr) => {
        if $condition {
            $crate::crash::pass($name)
        }
    };
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {{}};
    ($name:literal, if $condition:expr) => {
        if false {
            let _: bool = $condition;
        }
    };
}

/// One pass of a point; what [`crash_point!`](crate::crash_point) calls.
#[cfg(feature = "failpoints")]
pub fn pass(name: &str) {
    static READ: std::sync::Once = std::sync::Once::new();
    // The scenario's end would clear the points again: it lives as long as the process.
    READ.call_once(|| std::mem::forget(fail::FailScenario::setup()));
    if fail::eval(name, |_| ()).is_some() {
        std::process::abort();
    }
}
