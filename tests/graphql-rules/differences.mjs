// Where the service and graphql-js 16 differ on purpose: the case, the result of graphql-js (true: it accepts the
// document), and the reason. The case itself says what the service does.
const NO_SUBSCRIPTIONS =
  "The schema does not have subscriptions. The specification of September 2025 (5.2.1.1) rejects an operation " +
  "without a root type; graphql-js 16 rejects it only when it executes the operation.";
const CUSTOM_SCALAR =
  "graphql-js knows this scalar only by its name, so it accepts every literal. The service knows its format.";

const OWN_LIMIT =
  "The service limits the rows and the values of a response, and nested introspection lists to three levels, the list " +
  "of types included. graphql-js stops at the third list below a type.";

export const DIFFERENCES = {
  "MaxIntrospectionDepth: three levels of fields of one type": { graphqlJs: false, reason: OWN_LIMIT },
  "SingleFieldSubscriptions: a subscription with one field": { graphqlJs: true, reason: NO_SUBSCRIPTIONS },
  "SingleFieldSubscriptions: a named subscription with one field": { graphqlJs: true, reason: NO_SUBSCRIPTIONS },
  "SingleFieldSubscriptions: a subscription with two fields": { graphqlJs: true, reason: NO_SUBSCRIPTIONS },
  "SingleFieldSubscriptions: a subscription with an introspection field": { graphqlJs: true, reason: NO_SUBSCRIPTIONS },
  "SingleFieldSubscriptions: a subscription with two fields in a fragment": { graphqlJs: true, reason: NO_SUBSCRIPTIONS },
  "ValuesOfCorrectType: a date in another format": { graphqlJs: true, reason: CUSTOM_SCALAR },
  "ValuesOfCorrectType: a date as a number": { graphqlJs: true, reason: CUSTOM_SCALAR },
  "ValuesOfCorrectType: a decimal that is not a number": { graphqlJs: true, reason: CUSTOM_SCALAR },
  "ValuesOfCorrectType: a currency code in lower case": { graphqlJs: true, reason: CUSTOM_SCALAR },
};
