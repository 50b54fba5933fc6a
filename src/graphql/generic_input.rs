//! Input objects with a type parameter. The derive macro of async-graphql 7.2 needs a list of all type arguments, and
//! this module does not know the types of the slices.

use std::marker::PhantomData;

use async_graphql::{
    InputType, InputValueError, Name, Value,
    indexmap::IndexMap,
    registry::{MetaInputValue, MetaType, MetaTypeId, Registry},
};

/// Registers an input object; `fields` registers the types of its fields. Returns its name.
pub fn register<T: InputType>(
    registry: &mut Registry,
    description: &str,
    fields: impl Fn(&mut Registry) -> Vec<MetaInputValue>,
) -> String {
    registry.create_input_type::<T, _>(MetaTypeId::InputObject, |registry| MetaType::InputObject {
        name: T::type_name().into_owned(),
        description: Some(description.to_owned()),
        input_fields: fields(registry)
            .into_iter()
            .map(|field| (field.name.clone(), field))
            .collect(),
        visible: None,
        inaccessible: false,
        tags: Vec::new(),
        rust_typename: Some(std::any::type_name::<T>()),
        oneof: false,
        directive_invocations: Vec::new(),
    })
}

/// A field of type `T`.
pub fn field<T: InputType>(
    registry: &mut Registry,
    name: &str,
    description: &str,
) -> MetaInputValue {
    MetaInputValue {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        ty: T::create_type_info(registry),
        deprecation: async_graphql::registry::Deprecation::NoDeprecated,
        default_value: None,
        visible: None,
        inaccessible: false,
        tags: Vec::new(),
        is_secret: false,
        directive_invocations: Vec::new(),
    }
}

/// The fields of a value that must be an object of type `T`.
pub struct Fields<T> {
    values: IndexMap<Name, Value>,
    object: PhantomData<fn() -> T>,
}

impl<T: InputType> Fields<T> {
    /// Reads the fields of a value. Errors: the value is not an object.
    pub fn parse(value: Option<Value>) -> Result<Self, InputValueError<T>> {
        match value {
            Some(Value::Object(values)) => Ok(Self {
                values,
                object: PhantomData,
            }),
            other => Err(InputValueError::expected_type(other.unwrap_or_default())),
        }
    }

    /// Takes the value of a field. If the client omitted the field, its type decides whether that is an error.
    pub fn take<F: InputType>(&mut self, name: &str) -> Result<F, InputValueError<T>> {
        F::parse(self.values.swap_remove(name)).map_err(InputValueError::propagate)
    }

    /// Whether the client gave the field.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}
