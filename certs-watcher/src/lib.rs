//! Identity and trust of a workload.
