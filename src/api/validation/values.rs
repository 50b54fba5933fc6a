//! Checks literals, default values and the values of variables against their types (specification, 5.6 and 6.1.2).
//!
//! Each error names the path of the value, such as `input.lineItems[1].unitPrice`.

use std::fmt::{self, Write as _};

use async_graphql::{
    InputType, Name, Pos, Value,
    indexmap::IndexMap,
    registry::{MetaInputValue, MetaType, Registry},
};
use async_graphql_value::Value as Literal;

use super::{Errors, usages::VariableUse};
use crate::graphql::scalars::{CurrencyCode, Date, Decimal, Timestamp};

/// Messages quote values up to this length.
const MAX_QUOTED_CHARS: usize = 60;

/// A value, as a literal of a document or as a constant.
pub(super) trait InputNode: Sized {
    fn kind(&self) -> Kind<'_, Self>;

    /// A copy for the parser of a scalar; `None` for a variable.
    fn to_constant(&self) -> Option<Value>;
}

/// The kinds of values.
pub(super) enum Kind<'v, V> {
    Null,
    Variable(&'v Name),
    Number(&'v async_graphql::Number),
    String(&'v str),
    Boolean,
    Enum(&'v Name),
    Binary,
    List(&'v [V]),
    Object(&'v IndexMap<Name, V>),
}

impl InputNode for Value {
    fn kind(&self) -> Kind<'_, Self> {
        match self {
            Self::Null => Kind::Null,
            Self::Number(number) => Kind::Number(number),
            Self::String(text) => Kind::String(text),
            Self::Boolean(_) => Kind::Boolean,
            Self::Binary(_) => Kind::Binary,
            Self::Enum(name) => Kind::Enum(name),
            Self::List(items) => Kind::List(items),
            Self::Object(fields) => Kind::Object(fields),
        }
    }

    fn to_constant(&self) -> Option<Value> {
        Some(self.clone())
    }
}

impl InputNode for Literal {
    fn kind(&self) -> Kind<'_, Self> {
        match self {
            Self::Null => Kind::Null,
            Self::Variable(name) => Kind::Variable(name),
            Self::Number(number) => Kind::Number(number),
            Self::String(text) => Kind::String(text),
            Self::Boolean(_) => Kind::Boolean,
            Self::Binary(_) => Kind::Binary,
            Self::Enum(name) => Kind::Enum(name),
            Self::List(items) => Kind::List(items),
            Self::Object(fields) => Kind::Object(fields),
        }
    }

    fn to_constant(&self) -> Option<Value> {
        self.clone().into_const()
    }
}

/// A step of the path of a value.
enum Step<'v> {
    Field(&'v str),
    Index(usize),
}

/// Where the value comes from. A variable in JSON spells the value of an enum as a string; a document does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Document,
    Json,
}

/// The place in the schema that a value is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Location<'r> {
    /// The type, as the schema writes it.
    pub(super) declared: &'r str,
    /// Whether the argument or the input field has a default.
    pub(super) has_default: bool,
    /// Whether the value is for a field of a `@oneOf` input object.
    pub(super) is_one_of: bool,
}

impl<'r> Location<'r> {
    pub(super) fn of(declared: &'r str) -> Self {
        Self {
            declared,
            has_default: false,
            is_one_of: false,
        }
    }

    pub(super) fn input(input: &'r MetaInputValue) -> Self {
        Self {
            has_default: input.default_value.is_some(),
            ..Self::of(&input.ty)
        }
    }

    /// Whether the value must be present.
    pub(super) fn is_required(self) -> bool {
        self.declared.ends_with('!') && !self.has_default
    }
}

/// Checks one value, with everything in it.
pub(super) struct ValueChecker<'v, 'e> {
    registry: &'v Registry,
    origin: Origin,
    root: &'v str,
    position: Pos,
    path: Vec<Step<'v>>,
    errors: &'e mut Errors,
    /// The variables in the value.
    pub(super) variables: Vec<VariableUse<'v>>,
}

impl<'v, 'e> ValueChecker<'v, 'e> {
    /// A checker for the value of an argument or a variable. `root` is the name of the argument or variable.
    pub(super) fn new(
        registry: &'v Registry,
        origin: Origin,
        root: &'v str,
        position: Pos,
        errors: &'e mut Errors,
    ) -> Self {
        Self {
            registry,
            origin,
            root,
            position,
            path: Vec::new(),
            errors,
            variables: Vec::new(),
        }
    }

    /// Checks a value. Without a location, only collects the variables in it.
    pub(super) fn check<V: InputNode>(&mut self, location: Option<Location<'v>>, value: &'v V) {
        if self.errors.is_full() {
            return;
        }
        let kind = value.kind();
        if let Kind::Variable(name) = kind {
            self.variables.push(VariableUse {
                name,
                position: self.position,
                location,
            });
            return;
        }
        let Some(declared) = location.map(|location| location.declared) else {
            self.collect(value);
            return;
        };
        let nullable = declared.trim_end_matches('!');
        if matches!(kind, Kind::Null) {
            if nullable != declared || location.is_some_and(|location| location.is_one_of) {
                self.report(" must not be null");
            }
            return;
        }
        if let Some(item) = item_type(nullable) {
            let location = Some(Location::of(item));
            match kind {
                Kind::List(items) => {
                    for (index, item) in items.iter().enumerate() {
                        self.path.push(Step::Index(index));
                        self.check(location, item);
                        self.path.pop();
                    }
                }
                // A single value is a list of one (specification, 3.11).
                _ => self.check(location, value),
            }
            return;
        }
        match self.registry.types.get(nullable) {
            Some(MetaType::InputObject {
                input_fields,
                oneof,
                ..
            }) => match kind {
                Kind::Object(given) => self.object(nullable, input_fields, *oneof, given),
                _ => self.report_type(value, nullable, ": it must be an object"),
            },
            Some(MetaType::Enum { enum_values, .. }) => match (kind, self.origin) {
                (Kind::Enum(name), _) if enum_values.contains_key(name.as_str()) => {}
                (Kind::String(name), Origin::Json) if enum_values.contains_key(name) => {}
                (Kind::String(name), Origin::Document) if enum_values.contains_key(name) => {
                    self.report_type(value, nullable, ": write it without quotes");
                }
                _ => self.report_type(value, nullable, ""),
            },
            Some(MetaType::Scalar { .. }) => {
                if let Err(reason) = check_scalar(nullable, value) {
                    self.report_type(value, nullable, &reason);
                }
            }
            // Another rule reports unknown types and output types.
            _ => self.collect(value),
        }
    }

    fn object<V: InputNode>(
        &mut self,
        type_name: &'v str,
        declared: &'v IndexMap<String, MetaInputValue>,
        is_one_of: bool,
        given: &'v IndexMap<Name, V>,
    ) {
        for (name, value) in given {
            self.path.push(Step::Field(name));
            let location = declared.get(name.as_str()).map(|field| Location {
                is_one_of,
                ..Location::input(field)
            });
            if location.is_none() {
                self.report(&format!(" is not a field of {type_name}"));
            }
            self.check(location, value);
            self.path.pop();
        }
        for field in declared.values() {
            if Location::input(field).is_required() && !given.contains_key(field.name.as_str()) {
                self.path.push(Step::Field(&field.name));
                self.report(" is required");
                self.path.pop();
            }
        }
        if is_one_of && given.len() != 1 {
            self.report(" must have exactly one field");
        }
    }

    /// Collects the variables in a value whose type is not known.
    fn collect<V: InputNode>(&mut self, value: &'v V) {
        match value.kind() {
            Kind::List(items) => items.iter().for_each(|item| self.check(None, item)),
            Kind::Object(fields) => fields.values().for_each(|field| self.check(None, field)),
            _ => {}
        }
    }

    fn report_type<V: InputNode>(&mut self, value: &V, type_name: &str, reason: &str) {
        let quoted = quote(value);
        self.report(&format!(": {quoted} is not a valid {type_name}{reason}"));
    }

    fn report(&mut self, message: &str) {
        let mut path = match self.origin {
            Origin::Document => self.root.to_owned(),
            Origin::Json => format!("${}", self.root),
        };
        for step in &self.path {
            let _ = match step {
                Step::Field(name) => write!(path, ".{name}"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
        }
        path.push_str(message);
        self.errors.add([self.position], path);
    }
}

/// The type of the items of a list type; `None` for other types.
pub(super) fn item_type(nullable: &str) -> Option<&str> {
    nullable.strip_prefix('[')?.strip_suffix(']')
}

/// Whether a scalar accepts a value. The error continues the message, or is empty.
fn check_scalar<V: InputNode>(scalar: &str, value: &V) -> Result<(), String> {
    fn parse<T: InputType>(value: &impl InputNode) -> Result<(), String> {
        let Some(constant) = value.to_constant() else {
            return Err(String::new());
        };
        T::parse(Some(constant)).map(drop).map_err(|error| {
            // The engine's message names the type, and this message does that too.
            let message = error.into_server_error(Pos::default()).message;
            let prefix = format!("Failed to parse \"{}\": ", T::type_name());
            let reason = message.strip_prefix(&prefix);
            let reason = reason.map(|reason| reason.split(" (occurred").next().unwrap_or(reason));
            match reason.filter(|reason| reason.starts_with("must ")) {
                Some(reason) => format!(": it {reason}"),
                None => String::new(),
            }
        })
    }

    let kind = value.kind();
    let is_valid = match scalar {
        "Int" => match kind {
            Kind::Number(number) => number
                .as_i64()
                .is_some_and(|int| i32::try_from(int).is_ok()),
            _ => false,
        },
        "Float" => matches!(kind, Kind::Number(_)),
        "String" => matches!(kind, Kind::String(_)),
        "Boolean" => matches!(kind, Kind::Boolean),
        "ID" => match kind {
            Kind::Number(number) => number.is_i64() || number.is_u64(),
            Kind::String(_) => true,
            _ => false,
        },
        "Date" => return parse::<Date>(value),
        "DateTime" => return parse::<Timestamp>(value),
        "Decimal" => return parse::<Decimal>(value),
        "CurrencyCode" => return parse::<CurrencyCode>(value),
        "UUID" => return parse::<uuid::Uuid>(value),
        "JSON" => true,
        // A test checks that no other scalar exists.
        _ => false,
    };
    is_valid.then_some(()).ok_or_else(String::new)
}

/// A value in an error message, in the notation of GraphQL.
fn quote<V: InputNode>(value: &V) -> String {
    let mut quoted = Quoted {
        text: String::new(),
        left: MAX_QUOTED_CHARS,
    };
    let is_cut = write_value(&mut quoted, value).is_err();
    let mut text = quoted.text;
    if is_cut {
        text.push('…');
    }
    text
}

/// Stops writing at the maximum length, so that a long value is not copied.
struct Quoted {
    text: String,
    left: usize,
}

impl fmt::Write for Quoted {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(char);
        }
        Ok(())
    }
}

fn write_value<V: InputNode>(out: &mut Quoted, value: &V) -> fmt::Result {
    match value.kind() {
        Kind::Null => out.write_str("null"),
        Kind::Variable(name) => write!(out, "${name}"),
        Kind::Number(number) => write!(out, "{number}"),
        Kind::String(text) => {
            out.write_str("\"")?;
            for char in text.chars() {
                write!(out, "{}", char.escape_debug())?;
            }
            out.write_str("\"")
        }
        Kind::Boolean => match value.to_constant() {
            Some(constant) => write!(out, "{constant}"),
            None => Ok(()),
        },
        Kind::Enum(name) => out.write_str(name),
        Kind::Binary => out.write_str("a file"),
        Kind::List(items) => {
            out.write_str("[")?;
            for (index, item) in items.iter().enumerate() {
                out.write_str(if index == 0 { "" } else { ", " })?;
                write_value(out, item)?;
            }
            out.write_str("]")
        }
        Kind::Object(fields) => {
            out.write_str("{")?;
            for (index, (name, field)) in fields.iter().enumerate() {
                write!(out, "{}{name}: ", if index == 0 { "" } else { ", " })?;
                write_value(out, field)?;
            }
            out.write_str("}")
        }
    }
}

/// Checks the value of a variable against its declared type. Returns the errors.
pub(in crate::api) fn check_variable(
    registry: &Registry,
    name: &str,
    declared: &str,
    position: Pos,
    value: &Value,
) -> Vec<super::DocumentError> {
    let mut errors = Errors::default();
    let mut checker = ValueChecker::new(registry, Origin::Json, name, position, &mut errors);
    checker.check(Some(Location::of(declared)), value);
    errors.0
}
