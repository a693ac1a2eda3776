//! What CXone's knowledge base holds in the demo: the help pages of a desk for gifts and estates. Its search is real: it
//! ranks these by the words that were said, and most of them fit nothing.

use earpiece_simulator::platform::Article;

/// Id, title, text.
const ARTICLES: [(&str, &str, &str); 8] = [
    (
        "kb-101",
        "How much can prudently be given away",
        "First consider the giver's own needs for ten years, and whoever depends on that income. What is left can be \
         given.",
    ),
    (
        "kb-114",
        "Young givers: when a guardian has to sign",
        "A young person under 18 needs the signature of both guardians, and for land the consent of the court. From 18 on \
         only proof of identity is asked for.",
    ),
    (
        "kb-127",
        "Married givers: does the spouse have to agree?",
        "Married couples in community of property need both signatures above a fifth of their means. Otherwise one signature is \
         enough.",
    ),
    (
        "kb-130",
        "An amiable settlement between relatives",
        "Offer the free mediation before anybody writes to a lawyer: four of five families settle within three meetings, and \
         the gift keeps its date.",
    ),
    (
        "kb-142",
        "When the giver cannot come himself",
        "Whoever cannot come himself may send somebody with a notarised mandate. Video identification is possible \
         for sums below the yearly allowance.",
    ),
    (
        "kb-155",
        "Registering a gift with the tax office",
        "The form is due within three months of the transfer. Send it from the portal under Gifts > Register; the receipt \
         arrives by post.",
    ),
    (
        "kb-163",
        "Selling an inherited house",
        "Before the sale all heirs have to be in the land register. Certificates of inheritance are issued by the probate \
         court and take about six weeks.",
    ),
    (
        "kb-171",
        "Changing a will",
        "A new will replaces the old one from the day on which it is signed. Handwritten changes need a date, a place and a \
         full signature.",
    ),
];

/// Every article.
pub(crate) fn articles() -> Vec<Article> {
    let article = |&(id, title, body): &(&str, &str, &str)| Article {
        id: id.to_owned(),
        title: title.to_owned(),
        language: "en-US".to_owned(),
        url: format!("https://kb.example.com/{id}"),
        body: body.to_owned(),
    };
    ARTICLES.iter().map(article).collect()
}
