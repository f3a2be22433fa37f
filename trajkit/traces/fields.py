"""What a line of a file of questions may hold. Apart from their reading, as the command line's help shows it."""

FIELDS = {
    "image": "the image's file name, within --images (required)",
    "question": "what is asked about it (required)",
    "id": "unique in the file (default: made of image and question)",
    "target": "the right answer, where it is known: it tells right runs from wrong",
    "group_id": "questions of one group are never split (default: the image)",
    "task_set": "the family of tasks that it belongs to",
    "form": 'its template in that family, such as "how many"',
}
"""What a line may say; other keys are ignored."""
