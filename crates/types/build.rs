//! Compiles `proto/` with protox, so that no machine needs a protoc.

use std::path::PathBuf;

const PROTOS: [&str; 4] = ["meta.proto", "kv.proto", "raft.proto", "pd.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(PROTOS, [&root])?;
    // Ordered maps, so that equal messages have equal bytes.
    let mut config = tonic_prost_build::configure().bytes(".").btree_map(".");
    config = config.codec_path("crate::codec::BoundedCodec");
    // Large, or seldom there: envelopes and messages are handed on many times.
    for part in ["Envelope.body.message", "Envelope.region", "RaftMessage.snapshot"] {
        config = config.boxed(format!(".flotilla.v1.{part}"));
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
