//! The VPN that an operator declares in a `user-context`.

use proto::Vss;
use serde_json::{Map, Value};

use crate::kea_config::error::KeaConfigError;
use crate::model::vpn::Vpn;

/// Allowed declarations of a VPN, for error messages.
const ALLOWED: &str = r#"a map of either "name" (1 to 254 ASCII characters, none of them NUL) or "rfc2685" (14 hexadecimal digits)"#;

/// Returns the VPN that `user_context` declares, if any. `holder` names its subnet or shared
/// network for error messages.
pub fn declared(holder: &str, user_context: Option<&Value>) -> Result<Option<Vpn>, KeaConfigError> {
    let Some(value) = user_context.and_then(|context| context.get("vpn")) else {
        return Ok(None);
    };
    value
        .as_object()
        .and_then(read)
        .map(Some)
        .ok_or_else(|| KeaConfigError::Refused {
            parameter: format!(r#""vpn" in the user-context of {holder}"#),
            value: value.to_string(),
            allowed: ALLOWED.to_owned(),
        })
}

/// Reads the map of `vpn`, which has exactly one of the known keys.
fn read(map: &Map<String, Value>) -> Option<Vpn> {
    if map.len() != 1 {
        return None;
    }
    let (key, value) = map.iter().next()?;
    let value = value.as_str()?;
    match key.as_str() {
        "name" => Vss::is_name(value).then(|| Vpn::Name(value.to_owned())),
        "rfc2685" => crate::model::hex::read(value)?
            .try_into()
            .ok()
            .map(Vpn::Rfc2685),
        _ => None,
    }
}
