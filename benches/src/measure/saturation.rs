//! Which part of the set-up held the rate.

use super::processes::Usages;
use crate::outcome::Limit;

/// The parts of a run, as far as they could be seen.
#[derive(Debug, Default)]
pub struct Parts<'a> {
    /// Whose performance is asked for.
    pub target: Option<&'a Usages>,
    /// This program.
    pub generator: Option<&'a Usages>,
    /// The application behind the target.
    pub backend: Option<&'a Usages>,
}

impl Parts<'_> {
    /// Who held the rate when nobody chose it. The target comes first: once it is saturated, its cost is what was asked
    /// for, however busy the others were.
    pub fn limit(&self) -> Limit {
        for (part, limit) in
            [(self.target, Limit::Target), (self.generator, Limit::Generator), (self.backend, Limit::Backend)]
        {
            if part.is_some_and(is_saturated) {
                return limit;
            }
        }
        Limit::Unknown
    }
}

/// Time spent waiting for a core counts as wanting it: two processes that share a core saturate it together.
fn is_saturated(usages: &Usages) -> bool {
    let wanted = usages.cost(0.0, None).cores_wanted;
    usages.busiest_thread >= SATURATED || wanted >= SATURATED * usages.allowed_cores
}

/// A thread that runs or waits for a core this much of the time has no room left: the rest is the unevenness of load.
const SATURATED: f64 = 0.9;
