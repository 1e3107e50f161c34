/// Time limits and bounds of a client of a host; part of docs/specification.md.
package struct HostRPCLimits: Sendable {
  /// For the whole of a short call; longer than the host gives its guest, so that its word comes first.
  package var answer: Duration = .seconds(40)
  /// For the first event of a process stream or a download; the host gives its guest less.
  package var opening: Duration = .seconds(45)
  /// A stream in which the host gives no sign of life for this long is broken. Time in which our own consumer or source
  /// is slow does not count.
  package var silence: Duration = HostMessageLimits.silence
  /// For giving up a process session.
  package var detach: Duration = .seconds(10)
  /// Events and pieces that wait for a slow consumer before the host is slowed down.
  package var waitingEvents = 8
  /// Longest event of a stream, in bytes: a piece and what goes round it.
  package var eventBytes = HostMessageLimits.pieceBytes + 4_096

  package init() {}
}
