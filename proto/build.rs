use prost::Message;

/// Generates the code without a protoc on the machine: protox compiles the files, tonic-prost-build writes Rust.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(
        [
            "netguard/v1/types.proto",
            "netguard/v1/sensor.proto",
            "netguard/v1/responder.proto",
            "netguard/v1/enroll.proto",
            "netguard/v1/admin.proto",
            "netguard/peer/v1/peer.proto",
        ],
        ["proto"],
    )?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("netguard.fds.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    // Apart: it is Envoy's interface, served by responders, and no part of what the role table speaks of.
    let envoy = protox::compile(["envoy/service/auth/v3/external_auth.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(envoy)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
