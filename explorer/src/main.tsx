import "./style-elements";
import "./workers";
import "graphiql/style.css";
import "@graphiql/plugin-explorer/style.css";
import "./app.css";

import { createRoot } from "react-dom/client";

import { App } from "./App";
import { keepRepaired } from "./repairs";
import { start } from "./session";

const root = document.getElementById("root")!;
keepRepaired(root);
void start();
createRoot(root).render(<App />);
