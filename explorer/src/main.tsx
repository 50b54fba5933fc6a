import "./style-elements";
import "./workers";
import "graphiql/style.css";
import "@graphiql/plugin-explorer/style.css";
import "./app.css";

import { createRoot } from "react-dom/client";

import { App } from "./App";
import { start } from "./session";

void start();
createRoot(document.getElementById("root")!).render(<App />);
