"""What a line of a file of questions may hold, and which judges there are. Apart from their reading, as the command
line's help shows it."""

FIELDS = {
    "image": "the image's file name, within --images (required)",
    "question": "what is asked about it (required)",
    "id": "unique in the file (default: made of image and question)",
    "target": "the right answer, where it is known",
    "targets": 'a list of accepted answers, such as ["2", "two"]',
    "outcome": "what a wrong answer is: hallucination, reasoning_failure, failure",
    "group_id": "questions of one group are never split (default: the image)",
    "task_set": "the family of tasks that it belongs to",
    "form": 'its template in that family, such as "how many"',
}
"""What a line may say; another key is an error, which names the nearest of these."""

OTHER_NAMES = {
    **dict.fromkeys(("answer", "label", "gold", "gt", "ground_truth", "solution", "reference", "expected"), "target"),
    **dict.fromkeys(("answers", "labels", "golds", "solutions", "references", "accepted"), "targets"),
    **dict.fromkeys(("prompt", "text", "query", "instruction", "input"), "question"),
    **dict.fromkeys(("img", "picture", "photo", "file", "file_name", "filename", "image_path", "path"), "image"),
    **dict.fromkeys(("question_id", "qid", "uid", "name", "sample_id", "transcript_id", "task_id"), "id"),
    **dict.fromkeys(("group", "scene"), "group_id"),
    **dict.fromkeys(("task", "category", "dataset", "family", "benchmark", "subset"), "task_set"),
    **dict.fromkeys(("kind", "template", "type", "question_type"), "form"),
}
"""What other tools call them."""

JUDGES = {
    "exact": "the target but for case, spacing and a final stop",
    "choice": "the target's letter: B, (B), B. a dog, the answer is B",
    "number": "the target's number: 1,234, 1/2, twenty-one, 50%, 5 cm",
    "number:0.01": "the same, to within 0.01 times the target",
    "pope": "yes or no; a yes where no is right is a hallucination",
    "module:function": "your own function (answer, targets), from this folder",
}
"""Each judge, and when it says that an answer is right."""
