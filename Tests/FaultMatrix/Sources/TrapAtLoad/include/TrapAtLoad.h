// Nothing: this library is for opening only.
