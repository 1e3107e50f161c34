import CLinux
import NIOCore

/// The time at which the newest data of a connection arrived in the guest. A handler sees the data much later: the
/// first request after a restore runs code whose pages are not loaded yet, which takes a hundred milliseconds under
/// emulation, and the guest's clock must not be late by as much.
enum ArrivalTime {
  /// The current time if the kernel does not report the arrival.
  static func ofNewestData(on channel: any Channel) async -> ContinuousClock.Instant {
    let age = try? await channel.eventLoop.submit { try milliseconds(channel) }.get()
    return .now - .milliseconds(Int64(age ?? 0))
  }

  private static func milliseconds(_ channel: any Channel) throws -> UInt32 {
    let age = try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: CInt.self) {
      (socket: CInt) -> UInt32 in
      var milliseconds: UInt32 = 0
      return martlet_guest_milliseconds_since_data(socket, &milliseconds) == 0 ? milliseconds : 0
    }
    return age ?? 0
  }
}
