//! Why a handshake failed, in words for a person. The other side's refusal comes as an alert, which
//! names a kind and no more.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// The error of TLS in an error of a socket.
fn of_tls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

/// True if the other side does not speak TLS at all.
pub(crate) fn is_not_tls(error: &io::Error) -> bool {
    matches!(of_tls(error), Some(Error::InvalidMessage(_)))
}

/// What went wrong, in one line whose subject is the other side.
pub(crate) fn handshake_fault(error: &io::Error) -> String {
    match of_tls(error) {
        Some(Error::InvalidCertificate(why)) => certificate_fault(why),
        Some(Error::AlertReceived(alert)) => alert_fault(*alert),
        Some(Error::NoCertificatesPresented) => "it shows no certificate".into(),
        Some(other) => format!("TLS failed: {other}"),
        None => error.to_string(),
    }
}

fn certificate_fault(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".into()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate was made by another authority than ours".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is not valid for this address".into()
        }
        other => format!("its certificate is not valid: {other}"),
    }
}

fn alert_fault(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => "it refuses our certificate: expired".into(),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it refuses our certificate: made by another authority than its own".into()
        }
        AlertDescription::CertificateRequired => "it asks for a certificate".into(),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it refuses our certificate".into(),
        other => format!("it ends TLS: {other:?}"),
    }
}
