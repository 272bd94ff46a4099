//! The description of the HTTP API (OpenAPI 3.1): what the routes' attributes share.
//!
//! Each handler describes itself, and the router is built of those descriptions, so that no route
//! is served without one ([`crate::routes`]). Here is what a problem looks like, which problems a
//! request may meet, and the shape of what the placement driver tells. The shapes are types that
//! are only described: what is sent is made in [`crate::views`], and a test holds both side by
//! side.

use std::collections::BTreeMap;

use flotilla_types::limits::BATCH_KEYS_MAX;
use serde_json::{Value, json};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi as _};

mod shapes;

pub(crate) use shapes::{
    Bytes, ClusterStatus, Conditional, KeyPath, Loaded, Operators, Problem, Readiness, Regions,
    RowsRead, Stores,
};

/// The media type of a problem.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// A batch's request body is described by hand, below.
pub(crate) const BATCH: &str = "Batch";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Flotilla",
        description = "Rows by key, and the state of the cluster. Keys and values are bytes: a key \
                       stands in a path with percent-escapes, a value is the body as it is.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact(),
    ),
    tags(
        (name = "rows", description = "Rows by key, by range, and as files"),
        (name = "cluster", description = "What the placement driver knows; read-only"),
        (name = "process", description = "The process that serves this"),
    ),
    components(schemas(Problem)),
)]
struct Head;

/// The description without its routes.
pub(crate) fn head() -> OpenApi {
    Head::openapi()
}

/// The text that is served, of the description of all routes. `{*key}` is the router's way to write
/// a part of a path that may contain slashes; the standard has no such thing.
pub(crate) fn text(described: &OpenApi) -> String {
    // A description is maps with names, which JSON can always hold.
    let mut document = serde_json::to_value(described).unwrap_or_default();
    if let Some(paths) = document["paths"].as_object_mut() {
        let named = std::mem::take(paths).into_iter();
        *paths = named
            .map(|(path, mut item)| {
                for (_, operation) in item.as_object_mut().into_iter().flatten() {
                    plain_parameters(operation);
                    // A value, and a file, may be empty.
                    if let Some(body) = operation.get_mut("requestBody") {
                        body["required"] = (path == "/v1/batch").into();
                    }
                }
                (path.replace("{*", "{"), with_head(item))
            })
            .collect();
    }
    document["components"]["schemas"][BATCH] = batch();
    document.to_string()
}

/// A parameter may be left out, but it has no null, and a number may be any of 64 bits.
fn plain_parameters(operation: &mut Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let Some(schema) = parameter["schema"].as_object_mut() else { continue };
        if let Some(kind) = schema.get("type").and_then(|kinds| kinds.get(0)).cloned() {
            schema.insert("type".into(), kind);
        }
        schema.remove("format");
        if schema.get("type") == Some(&"boolean".into()) {
            // As `Query::flag` reads it: ?hex alone is true.
            schema.insert("type".into(), "string".into());
            schema.insert("enum".into(), json!(["true", "false", "1", "0", ""]));
        }
    }
}

/// The operations of a path; where there is GET, there is HEAD, too, whose answers have no body.
fn with_head(mut item: Value) -> Value {
    let Some(mut head) = item.get("get").cloned() else { return item };
    if let Some(id) = head["operationId"].as_str() {
        head["operationId"] = format!("{id}_head").into();
    }
    let responses = head["responses"].as_object_mut().into_iter().flatten();
    for response in responses.filter_map(|(_, response)| response.as_object_mut()) {
        response.remove("content");
    }
    item["head"] = head;
    item
}

/// One of `get`, `put` and `delete`, each a list of rows.
fn batch() -> Value {
    let text = |least: u32| json!({ "type": "string", "minLength": least });
    let hex = |least: &str| {
        let pattern = format!("^([0-9a-fA-F]{{2}}){least}$");
        json!({ "type": "string", "pattern": pattern })
    };
    let object = |members: &[(&str, &Value)]| {
        let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
        let members: BTreeMap<&str, &Value> = members.iter().copied().collect();
        json!({ "type": "object", "additionalProperties": false, "required": names,
                "properties": members })
    };
    let keys = [("key", text(1)), ("key_hex", hex("+"))];
    let values = [("value", text(0)), ("value_hex", hex("*"))];
    let key: Vec<Value> = keys.iter().map(|(name, key)| object(&[(name, key)])).collect();
    let pairs = keys.iter().flat_map(|(name, key)| {
        values.iter().map(|(other, value)| object(&[(name, key), (other, value)]))
    });
    let list = |of: &[Value]| {
        let items = json!({ "oneOf": of });
        json!({ "type": "array", "maxItems": BATCH_KEYS_MAX, "items": items })
    };
    let (keys, pairs) = (list(&key), list(&pairs.collect::<Vec<_>>()));
    json!({ "oneOf": [
        object(&[("get", &keys)]), object(&[("put", &pairs)]), object(&[("delete", &keys)]),
    ]})
}

/// Statuses, each a problem, with what they mean.
fn problems(of: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let problem = |meaning: &str| {
        let schema = Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        ResponseBuilder::new().description(meaning).content(PROBLEM_JSON, content).build()
    };
    of.iter().map(|(status, meaning)| (status.to_string(), problem(meaning).into())).collect()
}

/// What every request may meet.
pub(crate) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            (400, "The request is malformed: a parameter, an escape, a header, the body"),
            (403, "A page of another site sent the request"),
            (421, "The server is not called so; see --http-host"),
        ])
    }
}

/// What a request that needs the cluster may meet.
pub(crate) struct Unanswered;

impl IntoResponses for Unanswered {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            (409, "The cluster refused, or others wrote the key at each attempt"),
            (429, "There is too much to do; Retry-After says when to come back"),
            (500, "The gateway failed"),
            (502, "A server answered what the protocol does not allow"),
            (503, "The cluster did not answer in time; there was no effect"),
        ])
    }
}

/// What a write may meet beside that.
pub(crate) struct Undetermined;

impl IntoResponses for Undetermined {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[(504, "It is not known whether the write took effect, or will")])
    }
}

/// What a request with a body may meet.
pub(crate) struct BadBody;

impl IntoResponses for BadBody {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[(408, "The body came too slowly"), (413, "The body, or a row, is too large")])
    }
}

/// What a request for one key may meet.
pub(crate) struct BadKey;

impl IntoResponses for BadKey {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            (412, "If-Match or If-None-Match does not hold; current_etag is the value's tag"),
            (414, "The key is too long"),
        ])
    }
}

#[cfg(test)]
mod tests {
    use flotilla_client::{Route, RoutesPage};
    use flotilla_types::proto;
    use flotilla_types::{Member, PeerId, Region, RegionId, StoreId};
    use utoipa::{PartialSchema, ToSchema};

    use super::*;
    use crate::views;

    /// The members of a JSON object are those that its shape has.
    fn same<T: ToSchema + PartialSchema>(value: &Value) {
        let schema = serde_json::to_value(T::schema()).expect("a schema");
        let described = schema["properties"].as_object().expect("an object").keys();
        let sent = value.as_object().expect("an object").keys();
        let (described, sent): (Vec<_>, Vec<_>) = (described.collect(), sent.collect());
        assert_eq!(described, sent, "{}", T::name());
    }

    #[test]
    fn what_is_described_is_what_is_sent() {
        let reason = views::reason(&proto::HealthReason::default());
        same::<shapes::Reason>(&reason);
        same::<ClusterStatus>(&views::status(&proto::ClusterStatus::default()));
        let load = Some(proto::StoreLoad::default());
        let store = views::store(&proto::StoreStatus { load, ..Default::default() });
        same::<shapes::Store>(&store);
        same::<shapes::StoreLoad>(&store["load"]);
        same::<shapes::Operator>(&views::operator(&proto::OperatorStatus::default()));
        let mut region = Region { id: RegionId(1), ..Region::default() };
        region.members = vec![Member::voter(PeerId(1), StoreId(1))];
        let route = Route {
            region,
            leader: None,
            approximate_bytes: 0,
            approximate_keys: 0,
            load: Default::default(),
        };
        let page = views::regions(&RoutesPage { routes: vec![route], stores: Default::default() });
        same::<Regions>(&page);
        same::<shapes::Region>(&page["regions"][0]);
        same::<shapes::RegionLoad>(&page["regions"][0]["load"]);
        same::<shapes::Epoch>(&page["regions"][0]["epoch"]);
        same::<shapes::Peer>(&page["regions"][0]["peers"][0]);
        same::<Problem>(&crate::problem::Problem::absent().to_json());
    }

    #[test]
    fn a_batch_is_described_by_what_is_read() {
        let text = batch().to_string();
        for name in ["get", "put", "delete", "key", "key_hex", "value", "value_hex"] {
            assert!(text.contains(&format!("\"{name}\"")), "{name}");
        }
    }
}
