import "./style-elements";
import "./workers";
import "graphiql/style.css";
import "@graphiql/plugin-explorer/style.css";
import "./app.css";

import { createRoot } from "react-dom/client";

import { keepAccessible } from "./accessibility";
import { App } from "./App";
import { startSession } from "./session";

const root = document.getElementById("root")!;
keepAccessible(root);
void startSession();
createRoot(root).render(<App />);
