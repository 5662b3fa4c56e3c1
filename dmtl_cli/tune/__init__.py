"""What a log decides: keys, trials of a teacher and of a student, the search over them. Imports teacher, student and
what is below."""
