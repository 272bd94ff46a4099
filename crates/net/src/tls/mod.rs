//! TLS for every port: one configuration of a process, taken from three files.
//!
//! * [`files`]: where the files are, and what they say once they are read and checked.
//! * [`handle`]: the configuration of the moment; files that change are taken while it is used.
//! * [`security`]: what a server does about callers that it cannot see: TLS, or where it listens.
//!
//! TLS 1.3 only, and both sides show a certificate of the same authority. Sessions are not resumed,
//! so each connection shows its certificates anew, and a certificate that was replaced is used from
//! the next connection on. Whom a certificate names is `principal.rs`; what that one may do is
//! `access.rs`; sockets are `incoming.rs` and `outgoing.rs`.

pub mod files;
pub mod handle;
pub mod security;

pub use files::{TlsError, TlsFiles};
pub use handle::Tls;
pub use security::Security;
