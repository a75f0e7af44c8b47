//! From contexts to an answer with citations: the [`Generator`] trait, and a client of any OpenAI-compatible server.
//!
//! [`OpenAiGenerator`] speaks plain HTTP, which is what a local model server (llama.cpp, vLLM, Ollama) offers.

use crate::paraphrase::Paraphraser;
use crate::query::Query;
use eas_text::values::{Date, Value};
use serde_json::{Value as Json, json};
use std::time::Duration;

/// What a generator may use of one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The document's id.
    pub document: usize,
    /// Its title; may be empty.
    pub title: String,
    /// When it was written.
    pub date: Option<Date>,
    /// How far it is believed, in `[0, 1]`.
    pub credibility: f64,
    /// Its chosen sentences, word for word, each with its position in the document from 0.
    pub sentences: Vec<(usize, String)>,
}

/// A sentence that an answer rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Citation {
    /// The document's id.
    pub document: usize,
    /// The sentence's position in the document, from 0.
    pub sentence: usize,
}

impl std::fmt::Display for Citation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}:{}]", self.document, self.sentence)
    }
}

/// One answered part of a question.
#[derive(Debug, Clone, PartialEq)]
pub struct AnsweredFact {
    /// Whom it is about.
    pub entity: String,
    /// What about it.
    pub attribute: String,
    /// The value, typed.
    pub value: Value,
    /// The share of the weighed evidence that supports it, in `[0, 1]`.
    pub share: f64,
}

/// What confidence is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evidence {
    /// How well the question matches what it was answered with, in about `[0, 1]`.
    pub top_score: f64,
    /// By how much it matches that better than the next best.
    pub margin: f64,
    /// The share of the evidence that agrees, in `[0, 1]`.
    pub support: f64,
}

/// What a generator made of the contexts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The text, with its citations; what it says when it abstains.
    pub text: String,
    /// Typed values, where the generator knows any.
    pub facts: Vec<AnsweredFact>,
    /// The cited sentences, in the order of the text.
    pub citations: Vec<Citation>,
    /// True when the contexts don't hold the answer.
    pub abstained: bool,
    /// What speaks for the answer.
    pub evidence: Evidence,
}

impl Answer {
    /// "Not found."
    pub fn abstain() -> Self {
        Self { text: "Not found in the documents.".to_owned(), abstained: true, ..Self::default() }
    }
}

/// Writes an answer from retrieved contexts.
pub trait Generator: Send + Sync {
    /// Answers `query` from `contexts` alone, with citations, or abstains.
    fn generate(&self, query: &Query, contexts: &[Context]) -> Result<Answer, GenerateError>;
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A setting is outside what is accepted.
    #[error("{name} is {given}, must be {expected}")]
    Argument {
        /// The setting.
        name: &'static str,
        /// What was given.
        given: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The encoder of an extractive generator failed.
    #[error(transparent)]
    Text(#[from] eas_text::TextError),
    /// The evidence of the contexts can't be weighed, for example because of a credibility outside `[0, 1]`.
    #[error("the evidence can't be weighed: {0}")]
    Evidence(String),
    /// The server didn't answer in time.
    #[error("no answer from {url} within {}", Seconds(*.after))]
    Timeout {
        /// The server.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// The server answered with an error status.
    #[error("{url} answered {status} after {attempts} attempt(s): {body}")]
    Status {
        /// The server.
        url: String,
        /// HTTP status.
        status: u16,
        /// How often it was asked.
        attempts: u32,
        /// The beginning of what it said.
        body: String,
    },
    /// The server couldn't be reached, or broke off.
    #[error("{url} failed: {reason}")]
    Transport {
        /// The server.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The response isn't the JSON of a chat completion.
    #[error("{url} answered with {problem}: {start:?}")]
    Malformed {
        /// The server.
        url: String,
        /// What is wrong with it.
        problem: String,
        /// The beginning of the response.
        start: String,
    },
    /// The response is larger than accepted.
    #[error("{url} answered with more than {limit} bytes")]
    TooLarge {
        /// The server.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
}

struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// How the server is asked.
#[derive(Debug, Clone)]
pub struct OpenAiConfig {
    /// Base address, such as `http://localhost:8080/v1`; `/chat/completions` is appended.
    pub base_url: String,
    /// Model name, as the server knows it.
    pub model: String,
    /// Sent as bearer token when present.
    pub api_key: Option<String>,
    /// Limit for one attempt, connection included.
    pub timeout: Duration,
    /// Attempts in all when the server answers 429 (too many requests) or 503; at least 1.
    pub attempts: u32,
    /// Pause before the second attempt; doubles with each further one. A `Retry-After` in seconds replaces it, up to `timeout`.
    pub backoff: Duration,
    /// Largest response accepted, in bytes.
    pub max_response: u64,
    /// Most tokens that the server is asked to write.
    pub max_tokens: u32,
}

impl OpenAiConfig {
    /// A model at `base_url`: 60 s an attempt, 3 attempts, half a second of back-off, 1 MiB, 512 tokens.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key: None,
            timeout: Duration::from_mins(1),
            attempts: 3,
            backoff: Duration::from_millis(500),
            max_response: 1 << 20,
            max_tokens: 512,
        }
    }
}

/// A [`Generator`] that asks an OpenAI-compatible chat completion server.
#[derive(Debug)]
pub struct OpenAiGenerator {
    config: OpenAiConfig,
    url: String,
    agent: ureq::Agent,
}

/// What the model answers when the contexts don't hold the answer.
const NOT_FOUND: &str = "NOT FOUND";

const INSTRUCTION: &str = "Answer the question from the numbered passages only. Copy the sentences you use word for word, and put the \
    number of its passage in square brackets behind each, for example [2]. If the passages do not hold the answer, reply NOT FOUND.";

impl OpenAiGenerator {
    /// A client with this configuration; nothing is sent yet.
    ///
    /// # Errors
    /// An address that isn't `http://`, no attempt, or a timeout of zero.
    pub fn new(config: OpenAiConfig) -> Result<Self, GenerateError> {
        let refuse = |name, given: String, expected| Err(GenerateError::Argument { name, given, expected });
        if !config.base_url.starts_with("http://") {
            return refuse("base_url", config.base_url, "an address that starts with http://");
        }
        if config.attempts == 0 {
            return refuse("attempts", "0".into(), "at least 1");
        }
        if config.timeout.is_zero() {
            return refuse("timeout", "0".into(), "positive");
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(config.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .new_agent();
        let url = format!("{}/chat/completions", config.base_url.trim_end_matches('/'));
        Ok(Self { config, url, agent })
    }

    /// The request for `query` and `contexts`: passages numbered from 1, then the question.
    pub fn request(&self, query: &Query, contexts: &[Context]) -> Json {
        self.chat(INSTRUCTION, &prompt(query, contexts), 0.0, self.config.max_tokens)
    }

    /// The request for the model's reply to `message`, under `instruction`.
    fn chat(&self, instruction: &str, message: &str, temperature: f64, max_tokens: u32) -> Json {
        json!({
            "model": self.config.model,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "messages": [
                { "role": "system", "content": instruction },
                { "role": "user", "content": message },
            ],
        })
    }

    /// Sends a request and gives the text of the reply, without white space around it.
    fn complete(&self, request: &Json) -> Result<String, GenerateError> {
        let body = self.post(&request.to_string())?;
        let malformed =
            |problem: String| GenerateError::Malformed { url: self.url.clone(), problem, start: start_of(&body) };
        let parsed: Json = serde_json::from_str(&body).map_err(|e| malformed(format!("what isn't JSON ({e})")))?;
        let text = parsed["choices"][0]["message"]["content"].as_str();
        Ok(text.ok_or_else(|| malformed("JSON without choices[0].message.content".into()))?.trim().to_owned())
    }

    /// Posts the request until it is answered with something else than "try later", at most `attempts` times.
    fn post(&self, request: &str) -> Result<String, GenerateError> {
        let mut attempt = 1;
        let mut pause = self.config.backoff;
        loop {
            let mut call = self.agent.post(&self.url).header("content-type", "application/json");
            if let Some(key) = &self.config.api_key {
                call = call.header("authorization", format!("Bearer {key}"));
            }
            let mut response = call.send(request).map_err(|e| self.transport(e))?;
            let status = response.status().as_u16();
            let retry_after = response
                .headers()
                .get("retry-after")
                .and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok())
                .map(Duration::from_secs);
            let body = response
                .body_mut()
                .with_config()
                .limit(self.config.max_response)
                .read_to_vec()
                .map_err(|e| self.transport(e))?;
            let body = String::from_utf8_lossy(&body).into_owned();
            if (200..300).contains(&status) {
                return Ok(body);
            }
            if !matches!(status, 429 | 503) || attempt == self.config.attempts {
                return Err(GenerateError::Status {
                    url: self.url.clone(),
                    status,
                    attempts: attempt,
                    body: start_of(&body),
                });
            }
            std::thread::sleep(retry_after.unwrap_or(pause).min(self.config.timeout));
            attempt += 1;
            pause *= 2;
        }
    }

    fn transport(&self, error: ureq::Error) -> GenerateError {
        let url = self.url.clone();
        match error {
            ureq::Error::Timeout(_) => GenerateError::Timeout { url, after: self.config.timeout },
            ureq::Error::BodyExceedsLimit(limit) => GenerateError::TooLarge { url, limit },
            other => GenerateError::Transport { url, reason: other.to_string() },
        }
    }
}

impl Generator for OpenAiGenerator {
    fn generate(&self, query: &Query, contexts: &[Context]) -> Result<Answer, GenerateError> {
        let text = self.complete(&self.request(query, contexts))?;
        if text.is_empty() || text.contains(NOT_FOUND) {
            return Ok(Answer::abstain());
        }
        Ok(Answer { citations: cited(&text, contexts), text, ..Answer::default() })
    }
}

const REWORD: &str = "Say the same as the user's text in other words. Reply with the new text alone.";

/// The model at temperature 0.7, in at most twice as many tokens as the text has words. A text that it has nothing to say to stays.
impl Paraphraser for OpenAiGenerator {
    fn paraphrase(&self, text: &str) -> Result<String, GenerateError> {
        let words = u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX);
        if words == 0 {
            return Ok(text.to_owned());
        }
        let reworded = self.complete(&self.chat(REWORD, text, 0.7, words.saturating_mul(2)))?;
        Ok(if reworded.is_empty() { text.to_owned() } else { reworded })
    }
}

/// The user message: `[1] title`, its sentences, a blank line, ..., then the question.
pub fn prompt(query: &Query, contexts: &[Context]) -> String {
    let mut parts = Vec::with_capacity(contexts.len() + 1);
    for (number, context) in contexts.iter().enumerate() {
        let sentences: Vec<&str> = context.sentences.iter().map(|s| s.1.as_str()).collect();
        let header = format!("[{}] {}", number + 1, context.title);
        parts.push(format!("{}\n{}", header.trim_end(), sentences.join(" ")));
    }
    parts.push(format!("Question: {}", query.text));
    parts.join("\n\n")
}

/// The citations of an answer that quotes sentences with `[n]` behind them. A number without a passage is kept as a citation of a
/// document that doesn't exist, so that validation sees it.
fn cited(text: &str, contexts: &[Context]) -> Vec<Citation> {
    let mut citations = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(open) = rest.find('[') {
        let Some(close) = rest[open..].find(']') else { break };
        if let Ok(number) = rest[open + 1..open + close].trim().parse::<usize>() {
            let quoted = normal(&text[from..text.len() - rest.len() + open]);
            let citation = match number.checked_sub(1).and_then(|n| contexts.get(n)) {
                Some(context) => {
                    let sentence =
                        context.sentences.iter().find(|(_, s)| !quoted.is_empty() && quoted.contains(&normal(s)));
                    Citation { document: context.document, sentence: sentence.map_or(usize::MAX, |s| s.0) }
                }
                None => Citation { document: usize::MAX, sentence: usize::MAX },
            };
            if !citations.contains(&citation) {
                citations.push(citation);
            }
            from = text.len() - rest.len() + open + close + 1;
        }
        rest = &rest[open + close + 1..];
    }
    citations
}

/// Single spaces and no closing punctuation: quotes are compared without regard to layout.
fn normal(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches(['.', '!', '?']).to_owned()
}

fn start_of(body: &str) -> String {
    body.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{completion, reply, server};
    use std::net::TcpListener;

    fn client(url: &str) -> OpenAiGenerator {
        let mut config = OpenAiConfig::new(url, "small");
        config.timeout = Duration::from_secs(10);
        config.backoff = Duration::from_millis(5);
        config.api_key = Some("secret".into());
        OpenAiGenerator::new(config).expect("a valid configuration")
    }

    fn contexts() -> Vec<Context> {
        ["The tank holds 1.8 litres.", "The pump is rated at nine bar."]
            .iter()
            .enumerate()
            .map(|(i, s)| Context {
                document: 10 + i,
                title: format!("Page {i}"),
                date: None,
                credibility: 1.0,
                sentences: vec![(3, (*s).to_owned())],
            })
            .collect()
    }

    #[test]
    fn the_server_gets_every_context_and_the_answer_its_citations() {
        let (url, received, handle) = server(vec![completion("The tank holds 1.8 litres. [1]")]);
        let answer = client(&url).generate(&Query::plain("How much fits?"), &contexts()).expect("an answer");
        let request = received.recv().expect("one request");
        handle.join().expect("the server ends");
        assert!(request.starts_with("POST /v1/chat/completions"), "{request}");
        assert!(request.contains("Bearer secret"), "{request}");
        for part in [
            "[1] Page 0\\nThe tank holds 1.8 litres.",
            "[2] Page 1\\nThe pump",
            "Question: How much fits?",
            "\"model\":\"small\"",
        ] {
            assert!(request.contains(part), "{part} is missing in {request}");
        }
        assert_eq!(answer.citations, [Citation { document: 10, sentence: 3 }]);
        assert!(!answer.abstained);
    }

    #[test]
    fn not_found_abstains_and_unknown_passages_stay_visible() {
        let (url, _received, handle) = server(vec![completion("NOT FOUND"), completion("It is blue. [7]")]);
        let client = client(&url);
        assert!(client.generate(&Query::plain("?"), &contexts()).expect("an answer").abstained);
        let invented = client.generate(&Query::plain("?"), &contexts()).expect("an answer");
        handle.join().expect("the server ends");
        assert_eq!(invented.citations, [Citation { document: usize::MAX, sentence: usize::MAX }]);
    }

    #[test]
    fn too_many_requests_are_retried_but_not_for_ever() {
        let busy = reply("429 Too Many Requests", "retry-after: 0\r\n", b"later");
        let (url, received, handle) =
            server(vec![busy.clone(), busy.clone(), completion("The pump is rated at nine bar. [2]")]);
        let answer = client(&url).generate(&Query::plain("?"), &contexts()).expect("the third attempt");
        handle.join().expect("the server ends");
        assert_eq!(received.iter().count(), 3);
        assert_eq!(answer.citations, [Citation { document: 11, sentence: 3 }]);

        let (url, received, handle) = server(vec![busy.clone(), busy.clone(), busy]);
        let error = client(&url).generate(&Query::plain("?"), &contexts()).expect_err("it stays busy");
        handle.join().expect("the server ends");
        assert_eq!(received.iter().count(), 3);
        assert!(matches!(error, GenerateError::Status { status: 429, attempts: 3, .. }), "{error}");
    }

    #[test]
    fn a_server_error_is_reported_at_once_with_what_it_said() {
        let (url, received, handle) = server(vec![reply("500 Internal Server Error", "", b"out of memory")]);
        let error = client(&url).generate(&Query::plain("?"), &contexts()).expect_err("500");
        handle.join().expect("the server ends");
        assert_eq!(received.iter().count(), 1);
        let text = error.to_string();
        assert!(text.contains("500") && text.contains("out of memory") && text.contains("1 attempt"), "{text}");
    }

    #[test]
    fn silence_ends_in_a_timeout() {
        let (url, _received, handle) = server(vec![Vec::new()]);
        let mut config = OpenAiConfig::new(&url, "small");
        config.timeout = Duration::from_millis(200);
        let client = OpenAiGenerator::new(config).expect("a valid configuration");
        let error = client.generate(&Query::plain("?"), &contexts()).expect_err("silence");
        handle.join().expect("the server ends");
        assert!(matches!(error, GenerateError::Timeout { .. }), "{error}");
        assert!(error.to_string().contains("0.2 s"), "{error}");
    }

    #[test]
    fn garbage_is_named_as_such() {
        let bodies: [&[u8]; 4] = [b"{\"choices\": [", b"{\"choices\": []}", b"\xff\xfe\x00garbage", b""];
        let (url, _received, handle) = server(bodies.iter().map(|b| reply("200 OK", "", b)).collect());
        let client = client(&url);
        for body in bodies {
            let error = client.generate(&Query::plain("?"), &contexts()).expect_err("garbage");
            assert!(matches!(error, GenerateError::Malformed { .. }), "{body:?}: {error}");
        }
        handle.join().expect("the server ends");

        let (url, _received, handle) = server(vec![b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()]);
        let error = self::client(&url).generate(&Query::plain("?"), &contexts()).expect_err("not HTTP");
        handle.join().expect("the server ends");
        assert!(matches!(error, GenerateError::Transport { .. }), "{error}");
    }

    #[test]
    fn an_oversized_response_is_cut_off() {
        let (url, _received, handle) = server(vec![completion(&"word ".repeat(100_000))]);
        let mut config = OpenAiConfig::new(&url, "small");
        config.max_response = 10_000;
        let error = OpenAiGenerator::new(config)
            .expect("valid")
            .generate(&Query::plain("?"), &contexts())
            .expect_err("too large");
        handle.join().expect("the server ends");
        assert!(matches!(error, GenerateError::TooLarge { limit: 10_000, .. }), "{error}");
    }

    #[test]
    fn a_server_that_is_not_there_and_bad_settings() {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let error =
            client(&format!("http://127.0.0.1:{port}")).generate(&Query::plain("?"), &[]).expect_err("nobody listens");
        assert!(matches!(error, GenerateError::Transport { .. }), "{error}");
        let of = |change: fn(&mut OpenAiConfig)| {
            let mut config = OpenAiConfig::new("http://localhost/v1", "m");
            change(&mut config);
            OpenAiGenerator::new(config).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert!(of(|c| c.base_url = "ftp://x".into()).contains("ftp://x"));
        assert!(of(|c| c.attempts = 0).contains("attempts is 0"));
        assert!(of(|c| c.timeout = Duration::ZERO).contains("timeout"));
    }

    #[test]
    fn a_text_is_reworded_in_twice_its_words_and_stays_when_there_is_no_reply() {
        let (url, received, handle) = server(vec![completion("  A reservoir for water.\n"), completion("")]);
        let client = client(&url);
        assert_eq!(client.paraphrase("a water tank").expect("a reply"), "A reservoir for water.");
        assert_eq!(client.paraphrase("a water tank").expect("a reply"), "a water tank");
        assert_eq!(client.paraphrase(" ").expect("nothing to ask"), " ");
        handle.join().expect("the server ends");
        let requests: Vec<String> = received.iter().collect();
        for part in ["\"max_tokens\":6", "\"temperature\":0.7", "\"content\":\"a water tank\""] {
            assert!(requests[0].contains(part), "{part} is missing in {}", requests[0]);
        }
    }
}
