"""What each refusal means and what to do about it, for the page that problem documents link to."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.errors import PortalError


@dataclass(frozen=True, slots=True)
class RefusalDoc:
    code: str
    status: int
    meaning: str
    remedy: str


REFUSALS = (
    RefusalDoc("validation_error", 400, "A parameter or field is missing or wrong; `errors` names each.", "Correct what is named and send it again."),
    RefusalDoc("parse_error", 400, "The body is not what this endpoint reads.", "Send JSON of the shape that the API's document shows."),
    RefusalDoc("alert_invalid", 400, "The alert makes no sense; `detail` says why.", "Correct the threshold, or say how many calls a throttle leaves."),
    RefusalDoc("bad_request", 400, "The request is malformed: its head contradicts itself, or names two keys.", "Send each of `Host`, `Content-Length`, `Authorization` and `X-API-Key` once."),
    RefusalDoc("bad_handshake", 400, "The WebSocket handshake is not a GET in HTTP/1.1, or a header of it is missing or wrong.", "Use a WebSocket client; do not write the handshake by hand."),
    RefusalDoc("bad_path", 400, "The path holds `.` or `..` segments or a NUL character.", "Send the path that you mean."),
    RefusalDoc("verification_invalid", 400, "A question about a key makes no sense; `detail` names the field.", "Correct what is named and ask again."),
    RefusalDoc("invalid_model_request", 400, "The body of a call to a language model cannot be read; the message says why.", "Send JSON with `model`, and limits that are numbers."),
    RefusalDoc("bad_idempotency_key", 400, "The `Idempotency-Key` is not 1 to 200 visible ASCII characters, or was sent twice.", "Send one, for example a UUID."),
    RefusalDoc("missing_key", 401, "The request carried no API key.", "Send `Authorization: Bearer YOUR_KEY` or `X-API-Key`."),
    RefusalDoc("invalid_key", 401, "The key is not one of ours, or it was revoked.", "Check that it was copied whole; issue a new one under API keys."),
    RefusalDoc("key_expired", 401, "The key's expiry has passed, or its grace period after a rotation.", "Use the key that replaced it, or issue a new one."),
    RefusalDoc("not_authenticated", 401, "This address needs a key or a session.", "Send an owner key, or sign in."),
    RefusalDoc("authentication_failed", 401, "The key or session is not valid.", "Check that it was copied whole."),
    RefusalDoc("wrong_credentials", 401, "Address, password or code are not right, or the account is not staff.", "Check them; after some failures, wait some minutes."),
    RefusalDoc("code_needed", 401, "The account asks for a code of its authenticator app as well.", "Send it as `code`, or a recovery code."),
    RefusalDoc("invalid_token", 401, "The token is not valid, or its session is over.", "Refresh it, or sign in again at `POST /api/auth/login`."),
    RefusalDoc("suspended", 402, "The organization was suspended by staff.", "Write to support."),
    RefusalDoc("payment_owed", 402, "A plan that costs more begins when the open invoice is paid.", "Pay the invoice under Invoices, then choose the plan again."),
    RefusalDoc("trial_over", 402, "The trial has ended and no payment method is known.", "Choose a plan on the Plan page; Free needs no payment."),
    RefusalDoc("subscription_cancelled", 402, "The subscription was cancelled and has ended.", "Choose a plan on the Plan page."),
    RefusalDoc("payment_required", 402, "A payment is overdue beyond the days of grace.", "Follow the banner in the portal, or pay the open invoice under Invoices; calls pass again at once."),
    RefusalDoc("subscription_paused", 402, "The subscription is paused: its trial ended without a payment method, or it was paused for you.", "Add a payment method on the Plan page; it goes on by itself. Where there is one, write to support."),
    RefusalDoc("out_of_scope", 403, "The key's scopes do not include this route.", "Use a key with this scope, or issue one without scopes."),
    RefusalDoc("feature_not_in_plan", 403, "The plan does not include this endpoint.", "Change to a plan with this endpoint."),
    RefusalDoc("owner_scope_missing", 403, "The owner key does not open this part of the API.", "Make one with the scope: `manage.py issue_owner_key NAME --scope SCOPE`."),
    RefusalDoc("gateway_not_trusted", 403, "Another gateway asked for its client, from an address that the settings do not name.", "Put its address into `FAREBOX_FORWARD_AUTH_FROM`."),
    RefusalDoc("not_found", 404, "There is no such product, route or resource.", "Compare the path with the quick start."),
    RefusalDoc("model_not_found", 404, "No language model of this name is sold.", "Ask `/v1/models` for those that you can call."),
    RefusalDoc("unknown_event", 404, "The ledger has no such event of this organization.", "Send the id that the report was answered with."),
    RefusalDoc("method_not_allowed", 405, "The route exists, but not for this method.", "Use one of the methods in the `Allow` header."),
    RefusalDoc("request_timeout", 408, "The request came too slowly. Not charged.", "Send it without long pauses."),
    RefusalDoc("report_too_late", 409, "Another gateway reported the end of a call after its time; the call was settled without it.", "Report sooner, or raise `FAREBOX_FORWARD_AUTH_REPORT_SECONDS`."),
    RefusalDoc("correction_refused", 409, "This event cannot be corrected so; `detail` says why.", "Correct the event itself, with a quantity that its meter counts."),
    RefusalDoc("too_many_alerts", 409, "There are as many alerts as there can be.", "Remove one that you no longer need."),
    RefusalDoc("idempotency_in_progress", 409, "The first request with this `Idempotency-Key` is still being carried out.", "Send it again after `Retry-After`: you get its answer."),
    RefusalDoc("stripe_customer_taken", 409, "Another organization is this customer of Stripe.", "Find it by `?search=cus_...`."),
    RefusalDoc("key_not_usable", 409, "The key was replaced, revoked or has expired.", "Issue a new one."),
    RefusalDoc("body_too_large", 413, "The request's body is over the route's limit.", "Send less at once."),
    RefusalDoc("unsupported_media_type", 415, "The body's media type is not read here.", "Send `Content-Type: application/json`."),
    RefusalDoc("idempotency_key_reused", 422, "This `Idempotency-Key` was sent with another request.", "Use a new key for each thing that you want done."),
    RefusalDoc("rate_limited", 429, "More calls than the plan allows in a window of time.", "Wait as long as `Retry-After` says, or change the plan."),
    RefusalDoc("key_rate_limited", 429, "More calls than this key's own limit allows.", "Wait as long as `Retry-After` says, or raise the key's limit."),
    RefusalDoc("route_rate_limited", 429, "More calls to this route than the plan allows in a window of time.", "Wait as long as `Retry-After` says; other routes are not concerned."),
    RefusalDoc("model_rate_limited", 429, "More calls to this language model than the plan allows in a window of time.", "Wait as long as `Retry-After` says, or call another model."),
    RefusalDoc("unit_rate_limited", 429, "More usage of a meter than the plan allows in a window of time.", "Wait as long as `Retry-After` says."),
    RefusalDoc("quota_exceeded", 429, "The period's included quantity is used and the plan sells no more.", "Change the plan, or wait for the next period. Retrying does not help."),
    RefusalDoc("trial_quota_reached", 429, "The trial's included quantity is used.", "Add a payment method, or wait for the next period."),
    RefusalDoc("concurrency_limited", 429, "More calls at the same time than the plan allows.", "Wait until one of your calls has ended, or change the plan."),
    RefusalDoc("key_concurrency_limited", 429, "More calls at the same time with this key than the plan allows.", "Wait until one of its calls has ended, or use another key."),
    RefusalDoc("route_concurrency_limited", 429, "More calls at the same time to this route than the plan allows.", "Wait until one of your calls to it has ended."),
    RefusalDoc("model_concurrency_limited", 429, "More calls at the same time to this language model than the plan allows.", "Wait until one of your calls to it has ended."),
    RefusalDoc("spend_cap_reached", 429, "This call would cost more than your spend cap allows in this period.", "Raise or remove the cap under Alerts and caps, or wait for the next period. Retrying does not help."),
    RefusalDoc("token_rate_limited", 429, "More tokens than the plan allows in a window of time; the longest answer counts until it is known.", "Wait as long as `Retry-After` says, or ask for a shorter answer."),
    RefusalDoc("daily_token_limit_reached", 429, "The tokens of this day (UTC) are used, or the rest does not fit what was asked for.", "Wait until midnight UTC, or ask for a shorter answer. Retrying does not help."),
    RefusalDoc("request_larger_than_limit", 429, "One call counts as more than a limit allows at once; of a language model, its prompt and longest answer.", "Ask for less: of a language model a shorter answer (`max_tokens`). Retrying does not help."),
    RefusalDoc("blocked_by_alert", 429, "One of your alerts blocks calls for the rest of the period.", "Change or lift it under Alerts and caps. Retrying does not help."),
    RefusalDoc("too_many_unknown_keys", 429, "Too many keys that do not exist were tried from this address.", "Wait a minute, then use a valid key."),
    RefusalDoc("throttled", 429, "A free endpoint was asked too often with this key.", "Wait as long as `Retry-After` says."),
    RefusalDoc("too_many_sign_ins", 429, "Too many failed sign-ins of this account or from this address.", "Wait some minutes."),
    RefusalDoc("upgrade_required", 426, "This route speaks WebSocket and takes no plain calls.", "Open it with a WebSocket client (version 13)."),
    RefusalDoc("headers_too_large", 431, "The request's headers are over the limit.", "Send smaller headers."),
    RefusalDoc("internal_error", 500, "Something went wrong on our side. Not charged.", "Try again; if it stays, write to support with the request id."),
    RefusalDoc("upgrade_not_supported", 501, "The route takes no WebSockets; other upgrades are not supported anywhere.", "Use plain HTTP."),
    RefusalDoc("upstream_unavailable", 502, "The API behind the gateway did not answer. Not charged.", "Try again a little later."),
    RefusalDoc("metering_unavailable", 503, "The call could not be metered, so it was not let through. Not charged.", "Try again after `Retry-After`."),
    RefusalDoc("gateway_stopped", 503, "The gateway was stopped in the middle of a stream that took longer than a stop waits for.", "Ask again: another worker answers."),
    RefusalDoc("model_without_price", 503, "The language model has no price yet, so it is not sold. Not charged.", "Choose another model, or write to support."),
    RefusalDoc("key_lookup_unavailable", 503, "The key was not seen before and cannot be looked up now. Not charged.", "Try again after `Retry-After`."),
    RefusalDoc("unavailable", 503, "A server that is needed here does not answer.", "Try again in some seconds."),
    RefusalDoc("upstream_timeout", 504, "The API behind the gateway took too long. Not charged.", "Try again, or ask for less."),
)  # fmt: skip


def all_refusals() -> list[RefusalDoc]:
    """The refusals of the doors as written above, then those of acts in the portal and the API by what they say of
    themselves: every code that a problem document can carry has its anchor."""
    written = {refusal.code for refusal in REFUSALS}
    found = {error.code: error for error in _errors(PortalError) if error.code not in written}
    others = [
        RefusalDoc(code, error.status, f"{error.title}.", "`detail` says what to change.")
        for code, error in sorted(found.items(), key=lambda item: (item[1].status, item[0]))
    ]
    return [*REFUSALS, *others]


def _errors(base: type[PortalError]) -> Iterator[type[PortalError]]:
    for error in base.__subclasses__():
        yield error
        yield from _errors(error)
