//! Sample articles for the knowledge search: the help pages of a telephone company that also sells devices.

use serde::{Deserialize, Serialize};

/// An article of the knowledge base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Article {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its language (BCP 47).
    pub language: String,
    /// Where it can be read.
    pub url: String,
    /// Its text.
    pub body: String,
}

/// The sample articles: most in English (`en-US`), some in German (`de-DE`) and Spanish (`es-ES`).
#[must_use]
pub fn samples() -> Vec<Article> {
    let article = |&(id, language, title, body): &(&str, &str, &str, &str)| Article {
        id: id.to_owned(),
        title: title.to_owned(),
        language: language.to_owned(),
        url: format!("https://help.example.com/{language}/{id}"),
        body: body.to_owned(),
    };
    SAMPLES.iter().map(article).collect()
}

/// Id, language, title, body.
const SAMPLES: &[(&str, &str, &str, &str)] = &[
    (
        "billing-double-charge",
        "en-US",
        "Charged twice for the same bill",
        "A bill that appears twice on a bank statement is usually one payment and one authorization. The authorization \
         disappears within three working days. When both were booked, open Billing > Payments, pick the second charge \
         and choose Refund duplicate: the money is back in five working days. Agents may credit up to 50 dollars at \
         once.",
    ),
    (
        "billing-due-date",
        "en-US",
        "Change the day a bill is due",
        "The due date can be moved once every six months to any day from the 1st to the 28th. The month of the change \
         has a partial bill for the days in between. Automatic payment follows the new date by itself.",
    ),
    (
        "billing-late-fee",
        "en-US",
        "Late fees and how to have one waived",
        "A late fee of 5 dollars is added seven days after the due date. One fee per year is waived without a question \
         when the customer asks. Service is restricted only after 30 days, and a payment arrangement prevents that.",
    ),
    (
        "billing-autopay",
        "en-US",
        "Set up automatic payment",
        "Automatic payment takes a card or a bank account and saves 5 dollars a month. It is switched on under Billing \
         > Automatic payment and starts with the next bill; a bill that is open already must be paid by hand.",
    ),
    (
        "billing-explained",
        "en-US",
        "Reading your first bill",
        "The first bill is higher than the following ones: it has the days since activation, one month in advance and \
         the activation fee. From the second bill on only the monthly price, extra usage and taxes are listed.",
    ),
    (
        "billing-payment-plan",
        "en-US",
        "Pay an overdue balance in installments",
        "An overdue balance between 60 and 900 dollars can be split into two to six installments. Service stays on as \
         long as each installment is paid by its date. Missing one ends the arrangement.",
    ),
    (
        "roaming-activate",
        "en-US",
        "Activate roaming before traveling abroad",
        "Roaming is off on new lines. Switch it on in the app under Line > Travel, or by texting TRAVEL to 611, at least \
         an hour before departure. In the phone's settings data roaming must be on as well. Europe including Spain and \
         Italy is zone 1, the rest of the world zone 2.",
    ),
    (
        "roaming-rates",
        "en-US",
        "Prices for calls and data abroad",
        "In zone 1 a day pass costs 6 dollars and has 1 gigabyte; calls and texts are included. In zone 2 it is 12 \
         dollars. Without a pass data is blocked abroad, so that nobody comes home to a surprise.",
    ),
    (
        "roaming-no-service",
        "en-US",
        "No network in another country",
        "Choose the network by hand once: Settings > Mobile > Network selection, any of the partners on the list. \
         Restart the phone. When no partner is listed, the line was never activated for travel.",
    ),
    (
        "router-lights",
        "en-US",
        "What the lights on the router mean",
        "Steady green: online. Blinking green: starting, up to ten minutes. Blinking red: no signal from the line; check \
         that the cable sits firmly in the grey socket. Steady red: the router is faulty and is exchanged free of \
         charge. Blue: a device may pair now.",
    ),
    (
        "router-restart",
        "en-US",
        "Restart or reset the router",
        "To restart, unplug the power for 30 seconds. A reset clears the Wi-Fi name and password: hold the pin hole \
         button for ten seconds until all lights go out. The label at the bottom has the names it starts with.",
    ),
    (
        "wifi-slow",
        "en-US",
        "Slow Wi-Fi in some rooms",
        "Measure at the router first, by cable. When that is fast, the walls are the reason: put the router in the open \
         and high, use the 5 GHz band nearby and 2.4 GHz far away, or add a mesh unit. Up to two mesh units are lent \
         free of charge.",
    ),
    (
        "wifi-password",
        "en-US",
        "Find or change the Wi-Fi password",
        "The password is on the router's label unless it was changed. Change it in the app under Home > Wi-Fi. Every \
         device must be connected again afterwards, printers and cameras too.",
    ),
    (
        "internet-outage",
        "en-US",
        "Internet is down: check for an outage",
        "The outage map shows planned work and faults by postal code. During an outage longer than four hours each day \
         is credited on request. When the map is clear, restart the router and run the line test in the app.",
    ),
    (
        "internet-technician",
        "en-US",
        "Book or move a technician's visit",
        "Visits are free when the fault is ours. Windows are two hours long, 8 am to 8 pm, also on Saturdays. A visit can \
         be moved until 6 pm the day before; later a missed visit costs 35 dollars.",
    ),
    (
        "sim-activate",
        "en-US",
        "Activate a new SIM card",
        "Insert the SIM, open the activation page and type the last six digits of the card's number. It takes up to 15 \
         minutes; the old card stops at that moment. Restart the phone when it still says No SIM.",
    ),
    (
        "sim-esim",
        "en-US",
        "Move an eSIM to another phone",
        "An eSIM moves by transfer: Settings > Mobile > Add eSIM on the new phone, then confirm on the old one. Without \
         the old phone a new QR code is sent by e-mail after an identity check. Each code works once.",
    ),
    (
        "phone-lost",
        "en-US",
        "Lost or stolen phone",
        "Suspend the line at once in the app or by phone; nobody can call or surf with it and the monthly price is halved \
         for up to 60 days. Have the IMEI blocked, report a theft to the police, and order a replacement card.",
    ),
    (
        "phone-unlock",
        "en-US",
        "Unlock a phone for another carrier",
        "Phones are unlocked free of charge once they are paid for and 60 days old. The request takes two days; an e-mail \
         has the steps for the model. Prepaid phones need 12 months of use.",
    ),
    (
        "number-port-in",
        "en-US",
        "Bring a phone number from another carrier",
        "Do not cancel the old contract first: that loses the number. Have the old account number and the transfer PIN \
         ready. Mobile numbers move within a day, landlines within ten. Both cards work until the switch.",
    ),
    (
        "number-port-out",
        "en-US",
        "Take a phone number to another carrier",
        "The transfer PIN is shown in the app under Line > Transfer and is valid for seven days. The contract ends by \
         itself when the number has left; remaining device payments become due with the final bill.",
    ),
    (
        "voicemail-pin",
        "en-US",
        "Forgotten voicemail PIN",
        "Reset the voicemail PIN in the app under Line > Voicemail, or dial 611 and say voicemail. A temporary PIN comes \
         by text message; it must be changed at the first call. Messages are kept.",
    ),
    (
        "calls-blocked",
        "en-US",
        "Stop spam calls",
        "Call protection is free: it marks likely spam and blocks known fraud. Single numbers are blocked in the phone \
         itself. Nobody from us ever asks for a password or a one-time code on the phone.",
    ),
    (
        "calls-dropped",
        "en-US",
        "Calls drop or sound broken up",
        "Switch on Wi-Fi calling indoors and VoLTE everywhere. When calls drop at one place only, send the place with the \
         app's signal report: the nearest mast is checked within two days. An old SIM card may be the reason as well.",
    ),
    (
        "plan-upgrade",
        "en-US",
        "Change to a larger or smaller plan",
        "A larger plan starts at once and is charged by the day; a smaller plan starts with the next bill. Device \
         discounts that need a certain plan end with it, so look at the new total before confirming.",
    ),
    (
        "plan-data-limit",
        "en-US",
        "Data is slow after the limit of the plan",
        "After the plan's data is used up the speed is 128 kbit/s until the next month begins. A boost of 5 gigabytes \
         costs 10 dollars and works within a minute. Unlimited plans are slowed only where a cell is crowded.",
    ),
    (
        "plan-cancel",
        "en-US",
        "Cancel a contract",
        "Contracts can be cancelled to the end of the month after the minimum term. Moving abroad or to an address \
         without our network ends them early against proof. Offer the retention team before confirming: they can give \
         three months at half price.",
    ),
    (
        "order-return",
        "en-US",
        "Return an ordered device",
        "Devices may be returned within 30 days, complete and reset to factory state, with the label from the order page. \
         The refund goes to the card that paid and takes up to ten days after arrival. Opened earphones are excluded.",
    ),
    (
        "order-tracking",
        "en-US",
        "Where is my order?",
        "An order shows its tracking number as soon as the parcel has left, usually the next working day. A parcel that \
         has not moved for three days is searched; after five a replacement is sent without waiting for the result.",
    ),
    (
        "warranty-repair",
        "en-US",
        "Repair of a device under warranty",
        "The warranty lasts two years and covers faults, not drops or water. Make a backup, remove the screen lock, and \
         print the repair label. A loan phone is available in every shop. Repairs take seven working days.",
    ),
    (
        "account-password",
        "en-US",
        "Account locked or password forgotten",
        "After five wrong passwords an account is locked for 30 minutes. Forgotten password sends a link to the known \
         e-mail address. When the address is out of date, identity is checked by the last bill's number.",
    ),
    (
        "account-owner",
        "en-US",
        "Transfer a line to another person",
        "Both people confirm the change of ownership in the app. The new owner passes a credit check; open bills stay with \
         the old one. The number, the plan and the device payments go along.",
    ),
    (
        "rechnung-doppelt",
        "de-DE",
        "Rechnung doppelt abgebucht",
        "Eine doppelte Abbuchung ist meist nur eine Vormerkung und verschwindet nach drei Werktagen. Wurde wirklich zweimal \
         gebucht, erstatten wir den Betrag innerhalb von fünf Werktagen.",
    ),
    (
        "roaming-aktivieren",
        "de-DE",
        "Roaming im Ausland aktivieren",
        "Roaming wird in der App unter Anschluss > Reisen eingeschaltet, spätestens eine Stunde vor der Abreise. Auch im \
         Telefon selbst muss Datenroaming erlaubt sein.",
    ),
    (
        "router-neustart",
        "de-DE",
        "Router neu starten",
        "Netzteil für 30 Sekunden ziehen und wieder einstecken. Nach zehn Minuten leuchtet die Lampe dauerhaft grün; blinkt \
         sie rot, fehlt das Signal auf der Leitung.",
    ),
    (
        "factura-duplicada",
        "es-ES",
        "Factura cobrada dos veces",
        "Un cargo doble suele ser una autorización que desaparece en tres días laborables. Si los dos cargos son firmes, \
         devolvemos el importe en cinco días laborables.",
    ),
    (
        "roaming-activar",
        "es-ES",
        "Activar el roaming antes de viajar",
        "El roaming se activa en la aplicación en Línea > Viajes, al menos una hora antes de salir. En los ajustes del \
         teléfono también debe estar activada la itinerancia de datos.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_sample_has_an_id_of_its_own_and_something_to_say() {
        let samples = samples();
        let ids: HashSet<_> = samples.iter().map(|article| &article.id).collect();
        assert_eq!(ids.len(), samples.len());
        assert!(samples.len() >= 30);
        assert!(samples.iter().all(|article| !article.title.is_empty() && article.body.len() > 100));
    }
}
