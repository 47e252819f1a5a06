//! The client's side of the API, from the same proto files as the server's.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = "../../runtime/proto";
    println!("cargo::rerun-if-changed={folder}");
    let files = ["modules", "jobs", "topics"].map(|name| format!("forebay/v1/{name}.proto"));
    tonic_prost_build::configure().build_server(false).compile_fds(protox::compile(files, [folder])?)?;
    Ok(())
}
