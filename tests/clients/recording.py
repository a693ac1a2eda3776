"""What a call left on disk, judged by what was sent: the WAV file read by hand, and the ledger."""

import asyncio
import json
import re
import time

SAMPLES_PER_SECOND = 8000
SILENCE = 0xFF
LABELS = {"left": "TX", "right": "RX"}
FINISH_S_MAX = 25.0
GAP_TOLERANCE_S = 0.1


class Wrong(Exception):
    """What a case found to be wrong."""


def check(condition, problem):
    if not condition:
        raise Wrong(problem)


def side(name):
    """Which sample of a pair belongs to a channel."""
    return 1 if name == "right" else 0


def read_wav(path):
    """Format tag, channels, rate, block align, bits and data of a WAV file, by hand."""
    raw = path.read_bytes()
    check(raw[:4] == b"RIFF" and raw[8:12] == b"WAVE", "no RIFF WAVE")
    check(int.from_bytes(raw[4:8], "little") == len(raw) - 8, "the RIFF size is wrong")
    chunks, at = {}, 12
    while at + 8 <= len(raw):
        size = int.from_bytes(raw[at + 4 : at + 8], "little")
        chunks.setdefault(raw[at : at + 4], raw[at + 8 : at + 8 + size])
        check(at + 8 + size <= len(raw), "a chunk is cut short")
        at += 8 + size + size % 2
    check(b"fmt " in chunks and b"data" in chunks, f"chunks {sorted(chunks)}")
    form = chunks[b"fmt "]
    tag, channels = int.from_bytes(form[0:2], "little"), int.from_bytes(form[2:4], "little")
    rate, bytes_per_s = int.from_bytes(form[4:8], "little"), int.from_bytes(form[8:12], "little")
    align, bits = int.from_bytes(form[12:14], "little"), int.from_bytes(form[14:16], "little")
    check((tag, rate, bits) == (7, SAMPLES_PER_SECOND, 8), f"format tag {tag}, {rate} Hz, {bits} bit")
    check((align, bytes_per_s) == (channels, rate * channels), f"block align {align}, {bytes_per_s} bytes per second")
    return channels, chunks[b"data"]


def silences(channel):
    """(samples of speech before it, position, length) of every silence, and the speech without them."""
    found, before = [], 0
    for part in re.finditer(rb"\xff+|[^\xff]+", channel):
        if part[0][0] == SILENCE:
            found.append((before, part.start(), len(part[0])))
        else:
            before += len(part[0])
    return found, channel.replace(b"\xff", b"")


def check_channel(leg, channel):
    """All bytes that were sent, in order, and silence only where the client was silent."""
    everything = b"".join(sent.audio for sent in leg.sent)
    found, speech_only = silences(channel)
    check(speech_only == everything, f"{leg.channel}: {len(speech_only)} bytes recorded, {len(everything)} sent")
    allowed, base = {0: None, len(everything): None}, 0
    for number, sent in enumerate(leg.sent):
        if number:
            allowed[base] = leg.away_s
        allowed |= {base + at: seconds for at, seconds in sent.pauses}
        base += len(sent.audio)
    for before, _, length in found:
        check(before in allowed, f"{leg.channel}: {length} samples of silence after sample {before}, unasked for")
        pause_s = allowed[before]
        if pause_s is not None and 0 < before < len(everything):
            # A hold also takes the time of the two handshakes.
            slack_s = GAP_TOLERANCE_S if len(leg.sent) == 1 else 3 * GAP_TOLERANCE_S
            check(abs(length / SAMPLES_PER_SECOND - pause_s) < slack_s, f"{leg.channel}: a gap of {length} samples")
    for at, seconds in allowed.items():
        if seconds is not None and seconds > 0.5:
            there = any(before == at for before, _, _ in found)
            check(there, f"{leg.channel}: no silence for a pause of {seconds:.2f} s")
    return [(position, length) for before, position, length in found if before < len(everything)]


def perspective_of(leg):
    """What the ledger must call a leg: the word of a known perspective, an unknown one as it was sent."""
    if leg.channel in LABELS:
        return LABELS[leg.channel]
    raw = json.loads(leg.perspective or "null")
    one = raw[0] if isinstance(raw, list) and len(raw) == 1 else raw
    return "MIX" if str(one).upper() in ("MIX", "MX", "2") else raw


def check_ledger(case, ledger, channels, data):
    check(ledger["contact"] == {"busNo": case.bus, "contactId": case.contact}, f"ledger of {ledger['contact']}")
    check(ledger["samples"] * channels == len(data), "the ledger's length is not the recording's")
    check(ledger["channels"] == {1: "mono", 2: "stereo"}[channels], f"ledger channels {ledger['channels']}")
    for trouble in ("lost", "overlaps", "unwritten"):
        check(not ledger[trouble], f"{trouble} in the ledger: {ledger[trouble]}")
    check(len(ledger["streams"]) == sum(len(leg.plans) for leg in case.legs), f"{len(ledger['streams'])} streams")
    for leg in case.legs:
        known = perspective_of(leg)
        streams = [stream for stream in ledger["streams"] if stream["perspective"] == known]
        check(len(streams) == len(leg.plans), f"{len(streams)} streams of perspective {known!r}")
        for number, (stream, sent) in enumerate(zip(streams, leg.sent)):
            check(stream["samples"] == len(sent.audio), f"stream {number}: {stream['samples']} samples in the ledger")
            check(stream["frames"] == sent.frames, f"stream {number}: {stream['frames']} frames, {sent.frames} sent")
            check(stream["generation"] == number + 1, f"stream {number}: generation {stream['generation']}")
            cut = leg.cut and number + 1 < len(leg.plans)
            reason = "peer_vanished" if cut else "peer_closed"
            check(stream["closed"]["reason"] == reason, f"stream {number}: closed by {stream['closed']['reason']}")
            check_pieces(ledger, stream, leg.channel, sent, data[side(leg.channel) :: channels])
        check_gaps(leg, [gap for gap in ledger["gaps"] if gap["perspective"] == known])
        if "unknown" in case.settings:
            counted = streams[0].get("unknownFields", 0)
            check(counted == int(case.settings["unknown"]), f"{counted} unknown fields counted")


def check_gaps(leg, gaps):
    """The ledger's gaps are the silences of the recording, each for its reason."""
    listed = [(gap["position"], gap["samples"]) for gap in gaps]
    check(listed == leg.silences, f"{leg.channel}: gaps {listed} in the ledger, {leg.silences} in the recording")
    between_sockets = "dropped" if leg.cut else "closed"
    for gap in gaps:
        expected = "not_yet_connected" if gap["position"] == 0 else "silence" if len(leg.sent) == 1 else between_sockets
        check(gap["reason"] == expected, f"{leg.channel}: a gap because of {gap['reason']}, not {expected}")


def check_pieces(ledger, stream, name, sent, channel):
    """The ledger says where each sample lies: there it must be."""
    pieces = [piece for piece in ledger["pieces"] if piece["stream"] == stream["stream"]]
    check(sum(piece["samples"] for piece in pieces) == len(sent.audio), "the pieces do not add up")
    for piece in pieces:
        at, first, samples = piece["position"], piece["firstSample"], piece["samples"]
        there = channel[at : at + samples]
        check(there == sent.audio[first : first + samples], f"{name}: position {at} does not hold sample {first}")


async def check_recording(folder, case):
    """Waits for the contact to be finished, then compares what is on disk with what was sent."""
    wav, ledger = folder / "recording.wav", folder / "ledger.json"
    until = time.monotonic() + FINISH_S_MAX
    while not (wav.exists() and ledger.exists()):
        check(time.monotonic() < until, f"no recording and ledger within {FINISH_S_MAX:.0f} s")
        await asyncio.sleep(0.1)
    channels, data = read_wav(wav)
    mono = any(leg.channel == "mono" for leg in case.legs)
    check(channels == (1 if mono else 2), f"{channels} channels")
    used = {}
    for leg in case.legs:
        used[leg.channel] = data[side(leg.channel) :: channels]
        leg.silences = check_channel(leg, used[leg.channel])
    for name in LABELS:
        if not mono and name not in used:
            check(not data[side(name) :: 2].strip(b"\xff"), f"the {name} channel is not silent")
    check_ledger(case, json.loads(ledger.read_text(encoding="utf-8")), channels, data)
