//! What the tests of several modules use.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use eas_tensor::Matrix;
use eas_text::TextError;
use eas_text::encoder::SentenceEncoder;
use eas_text::hash::fnv1a;
use serde_json::json;

use crate::query::content_terms;

/// Content words as dimensions (by hash): cosine is word overlap.
pub(crate) struct Words;

impl SentenceEncoder for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn dim(&self) -> usize {
        512
    }

    fn encode(&self, texts: &[&str]) -> Result<Matrix, TextError> {
        let mut out = Matrix::zeros(texts.len(), 512);
        for (row, text) in texts.iter().enumerate() {
            for term in content_terms(text) {
                out.row_mut(row)[fnv1a(term.as_bytes()) as usize % 512] += 1.0;
            }
        }
        out.normalize_rows();
        Ok(out)
    }
}

/// A server that answers each connection with the next of `replies` and hands over what it received. An empty reply means silence.
pub(crate) fn server(replies: Vec<Vec<u8>>) -> (String, Receiver<String>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let (sender, received) = channel();
    let handle = std::thread::spawn(move || {
        let mut silent = Vec::new();
        for reply in replies {
            let (stream, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            let mut head = String::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a header line");
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                if line == "\r\n" || line.is_empty() {
                    break;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body");
            sender.send(head + "\n" + &String::from_utf8_lossy(&body)).expect("the test waits");
            let mut stream = reader.into_inner();
            if reply.is_empty() {
                silent.push(stream);
            } else {
                // A client that stops at its limit closes the connection: that is no failure of the server.
                let _ = stream.write_all(&reply);
            }
        }
        // Connections that were not answered stay open until the test is over.
        if !silent.is_empty() {
            std::thread::sleep(Duration::from_millis(600));
        }
    });
    (url, received, handle)
}

pub(crate) fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len())
        .into_bytes();
    out.extend_from_slice(body);
    out
}

pub(crate) fn completion(text: &str) -> Vec<u8> {
    reply("200 OK", "", json!({ "choices": [{ "message": { "content": text } }] }).to_string().as_bytes())
}
