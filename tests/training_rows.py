"""Rows of every method about the same few questions; shared by the tests that run every method."""

ANSWERS = {
    "Where is my parcel?": "tracking",
    "I want my money back.": "refund",
    "Stop the order!": "cancel",
    "It fails": "payment",
}


def row(method, question, answer, wrong):
    messages = [{"role": "user", "content": question}]
    if method == "cpt":
        return {"text": f"{question} {answer}"}
    if method == "classification":
        return {"messages": messages, "label": answer}
    if method == "sft":
        return {"messages": [*messages, {"role": "assistant", "content": answer}]}
    sides = {"preferred_output": answer, "non_preferred_output": wrong}
    return {"input": {"messages": messages}} | {key: [{"role": "assistant", "content": text}] for key, text in sides.items()}


def rows(method):
    """11 rows of different lengths: the second window of an epoch is partial."""
    questions, answers = list(ANSWERS), list(ANSWERS.values())
    return [
        row(
            method,
            questions[index % 4] + " please" * (index % 3),
            answers[index % 4],
            answers[(index + 1) % 4] + "!" * (index % 3),
        )
        for index in range(11)
    ]
