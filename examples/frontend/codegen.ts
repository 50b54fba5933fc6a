import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "../../schema.graphql",
  documents: ["src/**/*.{ts,tsx}", "!src/gql/**"],
  generates: {
    "src/gql/": {
      preset: "client",
      // The default name `useFragment` looks like a React hook, but the function is not a hook.
      presetConfig: { fragmentMasking: { unmaskFunctionName: "unmask" } },
      config: {
        // Each scalar has the type of its JSON value. A new scalar in the schema fails here until it is listed.
        strictScalars: true,
        scalars: {
          CurrencyCode: "string",
          Date: "string",
          DateTime: "string",
          Decimal: "string",
          JSON: "unknown",
          UUID: "string",
        },
        enumsAsTypes: true,
        useTypeImports: true,
      },
    },
  },
};

export default config;
