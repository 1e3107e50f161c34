import Concurrency
import Connect
import ConnectClient
import HostAPI
import Model
import NIOCore
import Protos
import SwiftProtobuf

/// A process of a guest on another host. The event stream is the session; all other calls refer to it by its name.
final class RemoteProcessSession: ProcessSession {
  let pid: UInt32
  private let name: String
  private let stream: BoundedStream<Host_ProcessEvent>
  private let host: HostRPC
  private let isDetached = Mutex(false)

  init(pid: UInt32, name: String, events: BoundedStream<Host_ProcessEvent>, host: HostRPC) {
    self.pid = pid
    self.name = name
    stream = events
    self.host = host
  }

  var events: any AsyncSequence<ProcessEvent, any Error> & Sendable {
    RemoteEvents(pid: pid, remaining: stream)
  }

  /// Sends the bytes in parts, each after the guest has accepted the previous one.
  func write(_ bytes: ByteBuffer) async throws {
    for piece in bytes.pieces {
      let request = Host_SendInputRequest.with {
        $0.sessionID = name
        $0.data = piece.foundationData
      }
      let _: Host_Done = try await host.unary(.sendInput, request)
    }
  }

  func closeStandardInput() async throws {
    let _: Host_Done = try await host.unary(.closeInput, Host_SessionRequest.with { $0.sessionID = name })
  }

  func resize(_ size: TerminalSize) async throws {
    let request = Host_ResizeTerminalRequest.with {
      $0.sessionID = name
      $0.size = Host_TerminalSize(size)
    }
    let _: Host_Done = try await host.unary(.resizeTerminal, request)
  }

  func signal(_ signal: Int32) async throws {
    let request = Host_SignalSessionRequest.with {
      $0.sessionID = name
      $0.signal = signal
    }
    let _: Host_Done = try await host.unary(.signalSession, request)
  }

  /// Sends the detach call before it closes the stream, as the host kills a started process when its stream is lost.
  func detach(killing: Bool) async {
    let isFirst = isDetached.withLock { isDetached in
      defer { isDetached = true }
      return !isDetached
    }
    guard isFirst else { return }
    let request = Host_DetachSessionRequest.with {
      $0.sessionID = name
      $0.kills = killing
    }
    // In a task of its own: most sessions are ended because their caller was cancelled.
    await Task {
      let _: Host_Done? = try? await host.unary(.detachSession, request, within: host.limits.detach)
    }.value
    stream.cancel()
  }
}

/// The events of a session: `started`, which opening the session has consumed, then the remaining stream.
private struct RemoteEvents: AsyncSequence, Sendable {
  typealias Element = ProcessEvent

  let pid: UInt32
  let remaining: BoundedStream<Host_ProcessEvent>

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(first: .started(pid: pid), remaining: remaining.makeAsyncIterator())
  }

  struct AsyncIterator: AsyncIteratorProtocol {
    var first: ProcessEvent?
    let remaining: BoundedStream<Host_ProcessEvent>.AsyncIterator

    mutating func next() async throws -> ProcessEvent? {
      if let first {
        self.first = nil
        return first
      }
      while let event = try await hostCall({ try await remaining.next() }) {
        if let event = ProcessEvent(event) { return event }
      }
      return nil
    }
  }
}
