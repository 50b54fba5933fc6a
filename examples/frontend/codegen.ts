import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "../../schema.graphql",
  documents: ["src/**/*.{ts,tsx}", "!src/gql/**"],
  generates: {
    "src/gql/": {
      preset: "client",
      // `useFragment` is no hook; under its own name the rules of hooks leave it alone.
      presetConfig: { fragmentMasking: { unmaskFunctionName: "unmask" } },
      config: {
        // Each scalar is what it is in JSON; a new one in the schema fails here until it has a line.
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
