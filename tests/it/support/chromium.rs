//! A real browser without a window, driven over the protocol of its developer tools.

use std::process::Command;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::must;
use super::process::Process;

/// A browser with one page. It is killed when this is dropped.
pub(crate) struct Page {
    process: Process,
    socket: WebSocketStream<TcpStream>,
    /// Of the page; commands without it are for the browser.
    session: Option<String>,
    last_id: u64,
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Page {
    /// Starts a browser that believes every certificate, and opens this URL in it.
    pub(crate) async fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--ignore-certificate-errors",
            "--window-size=1400,900",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let mut process = Process::start(&mut command);
        let listens = |line: &str| line.strip_prefix("DevTools listening on ws://").map(str::to_owned);
        let devtools = process.stderr.next("the address of the DevTools", listens).await;
        let tcp = TcpStream::connect(devtools.split('/').next().unwrap()).await.unwrap();
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let shaken = tokio_tungstenite::client_async_with_config(format!("ws://{devtools}"), tcp, Some(config));
        let (socket, _) = must("the DevTools' handshake", shaken).await.unwrap();

        let mut page = Self { process, socket, session: None, last_id: 0, complaints: Vec::new(), _profile: profile };
        let target = page.command("Target.createTarget", json!({"url": "about:blank"})).await;
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = page.command("Target.attachToTarget", target).await;
        page.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.command(domain, json!({})).await;
        }
        let navigated = page.command("Page.navigate", json!({"url": url})).await;
        assert!(navigated["errorText"].is_null(), "{url}: {navigated}");
        page
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn command(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut command = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(command.to_string())).await.unwrap();
        let answered = async {
            loop {
                let message = self.socket.next().await.expect("the browser has ended").unwrap();
                let Message::Text(text) = message else { continue };
                let mut message: Value = serde_json::from_str(&text).unwrap();
                if message["id"] == self.last_id {
                    assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                    return message["result"].take();
                }
                self.complaints.extend(complaint(&message));
            }
        };
        must(method, answered).await
    }

    /// The value of a JavaScript expression, awaited if it is a promise.
    pub(crate) async fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut result = self.command("Runtime.evaluate", params).await;
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].take()
    }

    /// Waits until a JavaScript expression is true of the page, or has another value that counts as such, and gives it.
    pub(crate) async fn until(&mut self, expression: &str) -> Value {
        self.evaluate(&format!(
            "new Promise((resolve, reject) => {{
               const look = () => {{
                 try {{
                   const value = {expression};
                   if (!value) return;
                   resolve(value);
                 }} catch (error) {{ reject(error); }}
                 observer.disconnect();
               }};
               const observer = new MutationObserver(look);
               observer.observe(document, {{ subtree: true, childList: true, characterData: true, attributes: true }});
               look();
             }})"
        ))
        .await
    }

    /// Types into the element that this selector finds, and presses Enter.
    pub(crate) async fn type_line(&mut self, selector: &str, text: &str) {
        self.evaluate(&format!("document.querySelector({}).focus()", json!(selector))).await;
        self.command("Input.insertText", json!({"text": text})).await;
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
            self.command("Input.dispatchKeyEvent", key).await;
        }
    }

    /// Clicks into the middle of the element that this selector finds.
    pub(crate) async fn click(&mut self, selector: &str) {
        let middle = "{ x: box.x + box.width / 2, y: box.y + box.height / 2 }";
        let find = format!("const box = document.querySelector({}).getBoundingClientRect()", json!(selector));
        let at = self.evaluate(&format!("(() => {{ {find}; return {middle}; }})()")).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": at["x"], "y": at["y"], "button": "left", "clickCount": 1});
            self.command("Input.dispatchMouseEvent", event).await;
        }
    }

    /// What the browser had to complain about so far: errors, warnings, violations of the page's policy.
    pub(crate) async fn complaints(&mut self) -> Vec<String> {
        // Everything that happened before comes before the answer to this.
        self.evaluate("null").await;
        self.complaints.clone()
    }

    /// Ends the browser.
    pub(crate) async fn close(mut self) {
        self.session = None;
        self.command("Browser.close", json!({})).await;
        self.process.exit().await;
    }
}

/// What an event says that should not be.
fn complaint(event: &Value) -> Option<String> {
    let params = &event["params"];
    let bad = |level: &Value| level == "error" || level == "warning";
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if bad(&params["type"]) => Some(params["args"].to_string()),
        "Log.entryAdded" if bad(&params["entry"]["level"]) => Some(params["entry"].to_string()),
        _ => None,
    }
}
