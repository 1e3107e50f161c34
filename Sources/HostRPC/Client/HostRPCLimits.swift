/// Time limits and bounds of `HostRPC`; part of docs/specification.md.
package struct HostRPCLimits: Sendable {
  /// For a whole short call. Longer than the host's own limit for its guest, so that the host's error arrives first.
  package var unary: Duration = .seconds(40)
  /// For the first event of a process stream or a download. The host's limit for its guest is shorter.
  package var opening: Duration = .seconds(45)
  /// A stream without any event from the host for this long is broken. Time in which the local consumer or source is
  /// slow does not count.
  package var streamIdle: Duration = HostMessageLimits.streamIdle
  /// For detaching from a process session.
  package var detach: Duration = .seconds(10)
  /// Events that are buffered for a slow consumer before back pressure reaches the host.
  package var waitingEvents = 8
  /// The maximum size of a stream event in bytes: the data and its framing.
  package var eventBytes = HostMessageLimits.pieceBytes + 4_096

  package init() {}
}
