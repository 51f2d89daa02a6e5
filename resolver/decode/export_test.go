package decode

// Pending and PendingText are for the tests, which must hold whether or not a
// policy is acted on already.
var Pending = pending

const PendingText = pendingText
