//! What the processor offers to libraries that choose their code by it.

/// The architecture, then those of its features that are seen by this process and that aws-lc or libc go by. A process
/// under valgrind sees the processor that valgrind plays.
pub fn processor() -> String {
    let mut words = vec![std::env::consts::ARCH];
    words.extend(features());
    words.join(" ")
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let seen = [
        (has!("adx"), "adx"),
        (has!("aes"), "aes"),
        (has!("avx"), "avx"),
        (has!("avx2"), "avx2"),
        (has!("avx512f"), "avx512f"),
        (has!("avx512ifma"), "avx512ifma"),
        (has!("bmi1"), "bmi1"),
        (has!("bmi2"), "bmi2"),
        (has!("movbe"), "movbe"),
        (has!("pclmulqdq"), "pclmulqdq"),
        (has!("rdrand"), "rdrand"),
        (has!("rdseed"), "rdseed"),
        (has!("sha"), "sha"),
        (has!("ssse3"), "ssse3"),
        (has!("vaes"), "vaes"),
        (has!("vpclmulqdq"), "vpclmulqdq"),
    ];
    seen.into_iter().filter_map(|(seen, name)| seen.then_some(name)).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}
