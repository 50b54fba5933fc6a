//! Unions and interfaces of objects.

use async_graphql::{
    CacheControl, OutputType,
    indexmap::IndexMap,
    registry::{Deprecation, MetaField, MetaType, MetaTypeId, Registry},
};

/// Registers a union. `members` registers its members and returns their names.
pub(crate) fn union<T: OutputType>(
    registry: &mut Registry,
    description: &str,
    mut members: impl FnMut(&mut Registry) -> Vec<String>,
) -> String {
    registry.create_output_type::<T, _>(MetaTypeId::Union, |registry| MetaType::Union {
        name: T::type_name().into_owned(),
        description: Some(description.to_owned()),
        possible_types: members(registry).into_iter().collect(),
        visible: None,
        inaccessible: false,
        tags: Vec::new(),
        rust_typename: Some(std::any::type_name::<T>()),
        directive_invocations: Vec::new(),
    })
}

/// Registers an interface of objects with an id. `members` registers its members and returns their names.
pub(crate) fn interface<T: OutputType>(
    registry: &mut Registry,
    description: &str,
    mut members: impl FnMut(&mut Registry) -> Vec<String>,
) -> String {
    registry.create_output_type::<T, _>(MetaTypeId::Interface, |registry| {
        let members = members(registry);
        for member in &members {
            registry.add_implements(member, &T::type_name());
        }
        let id = MetaField {
            name: "id".to_owned(),
            description: Some("The ID, unique across all types.".to_owned()),
            args: IndexMap::new(),
            ty: <async_graphql::ID as OutputType>::create_type_info(registry),
            deprecation: Deprecation::NoDeprecated,
            cache_control: CacheControl::default(),
            external: false,
            requires: None,
            provides: None,
            visible: None,
            shareable: false,
            inaccessible: false,
            tags: Vec::new(),
            override_from: None,
            compute_complexity: None,
            directive_invocations: Vec::new(),
            requires_scopes: Vec::new(),
        };
        MetaType::Interface {
            name: T::type_name().into_owned(),
            description: Some(description.to_owned()),
            fields: IndexMap::from_iter([("id".to_owned(), id)]),
            possible_types: members.into_iter().collect(),
            extends: false,
            keys: None,
            visible: None,
            inaccessible: false,
            tags: Vec::new(),
            rust_typename: Some(std::any::type_name::<T>()),
            directive_invocations: Vec::new(),
            requires_scopes: Vec::new(),
        }
    })
}

/// Defines a union or an interface whose members are [`Object`](super::object::Object)s.
///
/// ```text
/// abstract_type! {
///     /// The user or the system that made a change.
///     union AuditActor { User(User), SystemActor(SystemActor) }
/// }
/// ```
macro_rules! abstract_type {
    ($(#[doc = $doc:literal])+ $kind:ident $name:ident { $($variant:ident($member:ty)),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub enum $name {
            $(
                #[doc = concat!("A `", stringify!($variant), "`.")]
                $variant($crate::graphql::object::Object<$member>)
            ),+
        }

        $(impl From<std::sync::Arc<$member>> for $name {
            fn from(row: std::sync::Arc<$member>) -> Self {
                Self::$variant(row.into())
            }
        })+

        impl async_graphql::OutputType for $name {
            fn type_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn introspection_type_name(&self) -> std::borrow::Cow<'static, str> {
                match self {
                    $(Self::$variant(_) => <$member as async_graphql::OutputType>::type_name()),+
                }
            }

            fn create_type_info(registry: &mut async_graphql::registry::Registry) -> String {
                let description = concat!($($doc),+).trim();
                $crate::graphql::abstract_type::$kind::<Self>(registry, description, |registry| vec![
                    $(
                        {
                            <$member as async_graphql::OutputType>::create_type_info(registry);
                            <$member as async_graphql::OutputType>::type_name().into_owned()
                        }
                    ),+
                ])
            }

            async fn resolve(
                &self,
                ctx: &async_graphql::ContextSelectionSet<'_>,
                field: &async_graphql::Positioned<async_graphql::parser::types::Field>,
            ) -> async_graphql::ServerResult<async_graphql::Value> {
                match self {
                    $(Self::$variant(object) => object.resolve(ctx, field).await),+
                }
            }
        }
    };
}
pub(crate) use abstract_type;
