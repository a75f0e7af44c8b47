//! Three tiny text collections, small enough to check every result by eye.

/// A query and the ids of the documents that answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// The words of the query.
    pub text: &'static str,
    /// Relevant document ids, ascending.
    pub relevant: &'static [usize],
}

/// Twelve products and services with words that mislead: paper notebooks, flights of stairs, dress shoes.
#[derive(Debug, Clone, Copy)]
pub struct MiniCatalogue {
    /// Descriptions; the index is the id.
    pub documents: &'static [&'static str; 12],
    /// Four queries with two relevant documents each.
    pub queries: &'static [Query; 4],
}

/// The small product catalogue of chapter 1.
pub fn mini_catalogue() -> MiniCatalogue {
    MiniCatalogue {
        documents: &CATALOGUE,
        queries: &[
            Query { text: "laptop", relevant: &[0, 1] },
            Query { text: "running shoes", relevant: &[3, 4] },
            Query { text: "cheap flights", relevant: &[6, 7] },
            Query { text: "car", relevant: &[9, 10] },
        ],
    }
}

/// A sense of the word "bank".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BankSense {
    /// The financial institution.
    Money,
    /// The edge of a river.
    Water,
}

/// Eight sentences with the word "bank", four in each sense.
pub fn bank_senses() -> [(&'static str, BankSense); 8] {
    let money = BANK_MONEY.map(|sentence| (sentence, BankSense::Money));
    let water = BANK_WATER.map(|sentence| (sentence, BankSense::Water));
    std::array::from_fn(|i| if i < 4 { money[i] } else { water[i - 4] })
}

/// The manual of an invented espresso machine, with questions in other words than the answers.
#[derive(Debug, Clone, Copy)]
pub struct OrlaManual {
    /// Passages; the index is the id.
    pub passages: &'static [&'static str; 16],
    /// Questions, each with the passage that answers it.
    pub questions: &'static [(&'static str, usize); 8],
    /// Questions that no passage answers.
    pub unanswerable: &'static [&'static str; 2],
}

/// The Orla manual of chapter 1.
pub fn orla_manual() -> OrlaManual {
    OrlaManual { passages: &ORLA_PASSAGES, questions: &ORLA_QUESTIONS, unanswerable: &ORLA_UNANSWERABLE }
}

const CATALOGUE: [&str; 12] = [
    "Ultra thin notebook computer with long battery life",
    "Gaming laptop with dedicated graphics card",
    "Spiral bound paper notebook with ruled pages",
    "Lightweight athletic footwear for marathon training",
    "Running shoes with a cushioned sole",
    "Leather dress shoes for the office",
    "Affordable airfare to Lisbon every weekend",
    "Cheap flights from London to Rome",
    "Flights of stairs fitted with a safety rail",
    "Used automobile with low mileage",
    "Electric car charging cable",
    "Stainless steel kitchen knife set",
];

const BANK_MONEY: [&str; 4] = [
    "The bank turned down our mortgage application because of an old debt.",
    "She deposited her salary at the bank on Friday.",
    "The bank raised interest rates on savings accounts.",
    "He asked the bank for a small business credit line.",
];

const BANK_WATER: [&str; 4] = [
    "We had a picnic on the grassy bank of the stream.",
    "The boat ran aground near the muddy bank after the flood.",
    "Otters dug a den in the bank beside the water.",
    "Willow trees lined the bank where the river bends.",
];

const ORLA_PASSAGES: [&str; 16] = [
    "The water tank of the Orla 3 holds 1.8 litres and lifts out from the left side.",
    "Descale the machine every 90 days, or sooner when the orange lamp blinks.",
    "The brew boiler works at 93 degrees Celsius and the steam boiler at 125.",
    "Grind size is set with the collar under the hopper; smaller numbers are finer.",
    "If no coffee flows, the puck screen is probably clogged and should be soaked overnight.",
    "The warranty covers parts for three years and labour for one year.",
    "Milk froths best when it is poured cold, below six degrees.",
    "Hold the two outer buttons for five seconds to return to factory settings.",
    "A used paper filter can go in the compost bin together with the grounds.",
    "The pump is rated at nine bar and switches off after thirty seconds.",
    "Replacement gaskets have part number G-417 and fit all Orla models.",
    "The cup warmer on top draws 60 watts and turns off after an hour.",
    "Connect the machine to wifi by scanning the code inside the front door.",
    "Beans stay fresh for about four weeks once the bag is opened.",
    "The drip tray must be emptied when the red float rises above the grille.",
    "Energy use in standby is half a watt.",
];

const ORLA_QUESTIONS: [(&str, usize); 8] = [
    ("How much liquid fits in the reservoir?", 0),
    ("How often does limescale have to be removed?", 1),
    ("How hot is the water when it makes espresso?", 2),
    ("What should I do when nothing comes out of the spout?", 4),
    ("For how long are repairs paid for by the maker?", 5),
    ("How do I reset everything to the original configuration?", 7),
    ("Which spare seal do I need to order?", 10),
    ("How do I get it onto my home network?", 12),
];

const ORLA_UNANSWERABLE: [&str; 2] = ["Who won the chess championship in 1972?", "What is the capital of Mongolia?"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_point_at_documents() {
        let catalogue = mini_catalogue();
        assert!(catalogue.queries.iter().flat_map(|q| q.relevant).all(|&id| id < catalogue.documents.len()));
        let manual = orla_manual();
        assert!(manual.questions.iter().all(|&(_, passage)| passage < manual.passages.len()));
        assert!(manual.passages.iter().all(|passage| passage.ends_with('.')));
    }

    #[test]
    fn every_bank_sentence_has_the_word() {
        let senses = bank_senses();
        assert!(senses.iter().all(|(sentence, _)| sentence.to_lowercase().contains("bank")));
        assert_eq!(senses.iter().filter(|(_, sense)| *sense == BankSense::Money).count(), 4);
    }
}
