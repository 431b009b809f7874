"""Reasons of the dataset checker with their hints: of whole files, of rows, and warnings; part of the error catalogue."""

FILE_PROBLEMS = {
    "DATASET_EMPTY": "Upload a file with at least one example.",
    "DATASET_ENCODING": "Save the file as UTF-8.",
    "DATASET_COMPRESSED": "Unpack the file first.",
    "DATASET_FILE_OTHER": "Export the rows as JSON lines: one JSON object per line.",
    "DATASET_PRETTY_PRINTED": "Write each object on one line: jq -c . FILE > FILE.jsonl",
    "DATASET_ARRAY_BROKEN": "Write one array and nothing else: [{...}, {...}], or one object per line without brackets.",
    "DATASET_ARRAY_TRUNCATED": "The file was cut off; write it again, and end it with ].",
}
"""What is wrong with a file as a whole; no budget for bad rows covers it."""

ROW_PROBLEMS = {
    "DATASET_NOT_UTF8": "Save the file as UTF-8.",
    "DATASET_NOT_JSON": "Write one JSON object per line.",
    "DATASET_TRUNCATED": "The row is cut off, or continues on the next line: write each object whole, on one line.",
    "DATASET_SEVERAL_VALUES": "Put each object on a line of its own: jq -c . FILE > FILE.jsonl",
    "DATASET_COMMA": "Remove the comma: JSON has none behind the last value, and lines have none between rows.",
    "DATASET_QUOTES": "Use plain double quotes (\"), as json.dumps does; Python's str() and word processors do not.",
    "DATASET_PYTHON": "Write the row with json.dumps: true, false and null instead of True, False and None.",
    "DATASET_COMMENT": "Remove the comment.",
    "DATASET_ESCAPE": 'Write a backslash as \\\\; known are \\" \\\\ \\/ \\b \\f \\n \\r \\t and \\u with four digits.',
    "DATASET_CONTROL_CHARACTER": "Escape it: a tab is \\t, a line end \\n.",
    "DATASET_NUL": "Remove the NUL bytes; they come from UTF-16 text or from a damaged file.",
    "DATASET_INVISIBLE_CHARACTER": "Remove the invisible character; files joined from several often hold one at each seam.",
    "DATASET_NUMBER": "Write numbers of at most 19 digits, and no NaN or Infinity; put anything else in quotes.",
    "DATASET_DUPLICATE_KEY": "Keep one of the two keys; readers disagree on which one counts.",
    "DATASET_LONE_SURROGATE": "Write the whole character; text was cut in the middle of an emoji.",
    "DATASET_LINE_TOO_LONG": "Split the row; a row is at most 8 MiB.",
    "DATASET_TOO_DEEP": "Rows nest at most 32 levels.",
    "DATASET_NOT_OBJECT": 'Each row is an object: {"messages": [...]}',
    "DATASET_FORMAT_OTHER": "Convert the file: tunesmith data convert FILE --from NAME, with alpaca, sharegpt or another.",
    "DATASET_FORMAT_MIXED": "Put rows of different formats into files of their own.",
    "DATASET_WRAPPED": "Take the rows out of the object: jq -c '.data[]' FILE > FILE.jsonl",
    "DATASET_KEY_UNKNOWN": "Correct or remove the key; it would train nothing.",
    "DATASET_MESSAGES_MISSING": 'Add "messages", a list of {"role", "content"}.',
    "DATASET_MESSAGE_MALFORMED": 'A message is {"role": ..., "content": ...}.',
    "DATASET_ROLE_UNKNOWN": "Roles are system, developer, user, assistant and tool.",
    "DATASET_CONTENT_INVALID": "The content is a text, or a list of text parts.",
    "DATASET_CONTENT_PART": "Remove the part, or describe it in words.",
    "DATASET_WEIGHT": "The weight of an assistant message is 0 (context) or 1 (learned).",
    "DATASET_NO_ASSISTANT": "Add what the assistant should say.",
    "DATASET_NOTHING_TO_LEARN": "Give at least one assistant message of the row weight 1, or remove the row.",
    "DATASET_BEGINS_WITH_ASSISTANT": "Begin with a system or user message, or give the first assistant message weight 0.",
    "DATASET_TOOL_CALL_INVALID": 'A call is {"id", "type": "function", "function": {"name", "arguments": "{...}"}}.',
    "DATASET_TOOL_MESSAGE": 'Set "tool_call_id" to the id of an earlier call in the same row.',
    "DATASET_TOOLS_INVALID": 'A tool is {"type": "function", "function": {"name", "description", "parameters": {...}}}.',
    "DATASET_FUNCTION_CALL": 'Use "tool_calls" and messages of role tool with "tool_call_id".',
    "DATASET_PREFERENCE": 'A row has "input": {"messages"}, and one assistant message in each of both outputs.',
    "DATASET_PREFERENCE_EQUAL": "Remove the row, or make the outputs differ.",
    "DATASET_TEXT": "The text is a text that says something.",
    "DATASET_LABEL": "A label is a text of 1 to 200 characters, or an integer.",
}
"""What is wrong with one row."""

WARNINGS = {
    "DATASET_FEW_EXAMPLES": "Add examples; 50 to 100 good ones are a usual start.",
    "DATASET_DUPLICATES": "Remove the repeated rows, unless they are meant to weigh more.",
    "DATASET_NEAR_DUPLICATES": "Look at the rows; nearly equal ones add little and make a validation split look too good.",
    "DATASET_DUPLICATES_UNKNOWN": "Nothing needs to be done; look for repeated rows with a tool for big data if it matters.",
    "DATASET_WITHOUT_SYSTEM": "Use the system message that the model will be given later, in every row or in none.",
    "DATASET_LAST_NOT_ASSISTANT": "End the rows with the assistant's answer, or cut what follows it.",
    "DATASET_EMPTY_CONTENT": "Fill the messages, or remove them.",
    "DATASET_LABELS_IMBALANCED": "Add rows of the rare labels; always saying the frequent one looks good too soon.",
    "DATASET_KEYS_IGNORED": "Nothing needs to be done; remove the keys if they were meant to train something.",
}
"""What deserves a second look; never an error."""
