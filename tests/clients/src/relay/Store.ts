// Documents for the Relay compiler, which finds them by the tag `graphql`. No file imports this one: relay.ts imports
// the artifacts that the compiler generates, and without a Babel plugin the tag has no effect.
import { graphql } from "relay-runtime";

export const query = graphql`
  query StoreProjectsQuery {
    ...Store_projects
  }
`;

// A connection that grows page by page in the store, and the query for its next page.
export const list = graphql`
  fragment Store_projects on Query
  @argumentDefinitions(count: { type: "Int", defaultValue: 5 }, cursor: { type: "String" })
  @refetchable(queryName: "StorePageQuery") {
    projects(first: $count, after: $cursor) @connection(key: "Store_projects") {
      edges {
        node {
          id
          ...Store_project
        }
      }
    }
  }
`;

// A row with a nested list. It can be refetched through `node`.
export const row = graphql`
  fragment Store_project on Project
  @argumentDefinitions(count: { type: "Int", defaultValue: 2 }, cursor: { type: "String" })
  @refetchable(queryName: "StoreProjectQuery")
  @throwOnFieldError {
    id
    name
    version
    owner {
      email
    }
    invoices(first: $count, after: $cursor) @connection(key: "Store_project_invoices") {
      edges {
        node {
          id
          number
        }
      }
    }
  }
`;

export const backwards = graphql`
  query StoreBackwardsQuery($last: Int!, $before: String) {
    auditLogs(last: $last, before: $before) @connection(key: "Store_auditLogs") {
      edges {
        node {
          action
          actor {
            __typename
            ... on User {
              email
            }
          }
          subject {
            ... on Project {
              name
            }
          }
        }
      }
    }
  }
`;

// Mutations whose responses add a row to the connections in the store, or remove one.
export const create = graphql`
  mutation StoreCreateMutation($input: CreateProjectInput!, $connections: [ID!]!) {
    createProject(input: $input) {
      project @prependNode(connections: $connections, edgeTypeName: "ProjectEdge") {
        id
        ...Store_project
      }
      userErrors {
        code
      }
    }
  }
`;

export const remove = graphql`
  mutation StoreDeleteMutation($input: DeleteProjectInput!, $connections: [ID!]!) {
    deleteProject(input: $input) {
      project {
        id @deleteEdge(connections: $connections) @deleteRecord
      }
      userErrors {
        code
      }
    }
  }
`;
