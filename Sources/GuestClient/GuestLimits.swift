/// Time limits and bounds of a guest client; part of docs/specification.md.
package struct GuestLimits: Sendable {
  /// For a unary call as a whole.
  package var call: Duration = .seconds(30)
  /// For the first event of a process stream.
  package var firstEvent: Duration = .seconds(30)
  /// A stream in which the guest sends nothing for this long has failed. Time in which our own consumer or source is
  /// slow does not count.
  package var streamIdle: Duration = .seconds(60)
  /// Interval of the keep-alive events that the guest sends while a process is silent, in seconds.
  package var keepAliveSeconds = 20
  /// For the signal that kills the process of a detached session.
  package var kill: Duration = .seconds(5)
  /// Longest event of a process stream, in bytes. The agent sends 32 KiB at most.
  package var eventBytes = 262_144
  /// Events that wait for a slow consumer before back-pressure stops the guest.
  package var waitingEvents = 8
  /// Chunks of a download that wait for a slow consumer.
  package var waitingChunks = 4
  /// Longest listing of a directory, in bytes.
  package var listingBytes = 33_554_432
  /// Input is sent in pieces of this size, in bytes.
  package var inputPieceBytes = 262_144
  /// Longest response of the plain HTTP routes, in bytes.
  package var plainResponseBytes = 65_536

  package init() {}
}
