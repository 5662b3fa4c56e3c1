"""One file per command, top to bottom. Of stages only run, compare and train_student import others. Imports everything
but cli and synth."""
