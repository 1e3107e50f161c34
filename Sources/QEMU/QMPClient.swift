import Concurrency
import Foundation
import Glibc
import LinuxSystem
import NIOCore
import NIOPosix
import SystemPackage

/// An error response of QEMU's monitor.
package struct QMPError: Error, Sendable, CustomStringConvertible {
  package let command: String
  package let text: String
  /// Whether the connection ended before a response.
  let isConnectionLost: Bool

  init(command: String, text: String, isConnectionLost: Bool = false) {
    self.command = command
    self.text = text
    self.isConnectionLost = isConnectionLost
  }

  package var description: String { "QMP \(command): \(text)" }
}

/// One connection to a QEMU monitor.
///
/// Source: QEMU documentation, interop/qmp-spec.rst: one JSON object per line; a greeting, then `qmp_capabilities`,
/// then responses that carry the command's id, with events in between.
final class QMPClient: Sendable {
  typealias EventHandler = @Sendable (_ name: String) -> Void

  private static let maximumLineBytes = 4_194_304
  private static let commandDeadline: Duration = .seconds(10)

  private struct State {
    var nextID = 1
    var waiting: [Int: CheckedContinuation<Data, any Error>] = [:]
    var isClosed = false
  }

  private let channel: any Channel
  private let state: Mutex<State>

  private init(channel: any Channel) {
    self.channel = channel
    state = Mutex(State())
  }

  /// Connects and negotiates.
  /// - Parameters:
  ///   - directory: directory of the monitor's socket. It is opened first, because a socket path is limited to 107
  ///     bytes (unix(7)).
  ///   - onEvent: called on an event loop; must not block.
  static func connect(directory: FilePath, socket: String, onEvent: @escaping EventHandler) async throws -> QMPClient {
    let place = try OwnedDescriptor.open(directory.string, O_RDONLY | O_DIRECTORY)
    let lines = LineHandler(maximumBytes: maximumLineBytes)
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connectTimeout(.seconds(2))
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(lines) }
      }
      .connect(unixDomainSocketPath: "/proc/self/fd/\(place.rawValue)/\(socket)").get()
    let client = QMPClient(channel: channel)
    lines.start { [weak client] line in
      client?.receive(line, onEvent: onEvent)
    } onClose: { [weak client] in
      client?.connectionEnded()
    }
    do {
      _ = try await client.execute("qmp_capabilities")
    } catch {
      client.close()
      throw error
    }
    return client
  }

  deinit {
    channel.close(promise: nil)
  }

  func close() {
    channel.close(promise: nil)
  }

  var isClosed: Bool { state.withLock { $0.isClosed } }

  /// Executes a command and returns the JSON of the response's `return` member.
  /// - Parameter descriptor: sent with the command, for `getfd`.
  /// - Throws: `QMPError` for an error response, a lost connection, or no response within the deadline.
  @discardableResult
  func execute(
    _ command: String, _ arguments: [String: any Sendable] = [:], passing descriptor: OwnedDescriptor? = nil,
    deadline: Duration = commandDeadline
  ) async throws -> Data {
    let id = state.withLock { state in
      defer { state.nextID += 1 }
      return state.nextID
    }
    var request: [String: Any] = ["execute": command, "id": id]
    if !arguments.isEmpty { request["arguments"] = arguments }
    let line = try JSONSerialization.data(withJSONObject: request) + [UInt8(ascii: "\n")]
    let timer = channel.eventLoop.scheduleTask(in: .nanoseconds(deadline.nanoseconds)) { [weak self] in
      self?.finish(id, .failure(QMPError(command: command, text: "no response in time")))
    }
    defer { timer.cancel() }
    let response = try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Data, any Error>) in
        let accepted = state.withLock { state in
          guard !state.isClosed else { return false }
          state.waiting[id] = continuation
          return true
        }
        guard accepted, !Task.isCancelled else {
          let failure = QMPError(command: command, text: "the monitor is closed", isConnectionLost: true)
          if accepted { finish(id, .failure(failure)) } else { continuation.resume(throwing: failure) }
          return
        }
        send(line, passing: descriptor, for: id)
      }
    } onCancel: {
      finish(id, .failure(CancellationError()))
    }
    return try Self.result(of: response, command: command)
  }

  private func send(_ line: Data, passing descriptor: OwnedDescriptor?, for id: Int) {
    guard let descriptor else { return channel.writeAndFlush(ByteBuffer(bytes: line), promise: nil) }
    channel.eventLoop.execute { [self] in
      do {
        try sendOnEventLoop([UInt8](line), passing: descriptor)
      } catch {
        finish(id, .failure(error))
      }
    }
  }

  /// NIO cannot pass descriptors, so the line is written directly to its socket. The socket accepts the whole line,
  /// because only one short command is sent at a time.
  private func sendOnEventLoop(_ line: [UInt8], passing descriptor: OwnedDescriptor) throws {
    let pending = try channel.syncOptions?.getOption(.bufferedWritableBytes) ?? 0
    guard pending == 0 else { throw SystemError("sendmsg", .resourceTemporarilyUnavailable) }
    let sent: Void? = try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) {
      socket in
      try descriptor.send(with: line, over: socket)
    }
    guard sent != nil else { throw SystemError("sendmsg", .notSupported) }
  }

  private static func result(of response: Data, command: String) throws -> Data {
    guard let object = try JSONSerialization.jsonObject(with: response) as? [String: Any] else {
      throw QMPError(command: command, text: "malformed response")
    }
    if let error = object["error"] as? [String: Any] {
      throw QMPError(command: command, text: error["desc"] as? String ?? "unknown error")
    }
    return try JSONSerialization.data(withJSONObject: object["return"] ?? [:], options: .fragmentsAllowed)
  }

  private func receive(_ line: Data, onEvent: EventHandler) {
    guard let object = try? JSONSerialization.jsonObject(with: line) as? [String: Any] else { return }
    if let event = object["event"] as? String { return onEvent(event) }
    if let id = object["id"] as? Int { finish(id, .success(line)) }
  }

  private func finish(_ id: Int, _ outcome: Result<Data, any Error>) {
    let continuation = state.withLock { $0.waiting.removeValue(forKey: id) }
    continuation?.resume(with: outcome)
  }

  private func connectionEnded() {
    let waiting = state.withLock { state in
      state.isClosed = true
      defer { state.waiting = [:] }
      return state.waiting
    }
    let failure = QMPError(command: "monitor", text: "the connection ended", isConnectionLost: true)
    for continuation in waiting.values { continuation.resume(throwing: failure) }
  }
}

/// Splits the stream into lines. Lines that arrive before `start` are kept.
private final class LineHandler: ChannelInboundHandler, Sendable {
  typealias InboundIn = ByteBuffer

  private struct State {
    var partial = Data()
    var early: [Data] = []
    var isClosed = false
    var onLine: (@Sendable (Data) -> Void)?
    var onClose: (@Sendable () -> Void)?
  }

  private let maximumBytes: Int
  private let state = Mutex(State())

  init(maximumBytes: Int) {
    self.maximumBytes = maximumBytes
  }

  func start(onLine: @escaping @Sendable (Data) -> Void, onClose: @escaping @Sendable () -> Void) {
    let (early, isClosed) = state.withLock { state in
      state.onLine = onLine
      state.onClose = onClose
      defer { state.early = [] }
      return (state.early, state.isClosed)
    }
    early.forEach(onLine)
    if isClosed { onClose() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let bytes = unwrapInboundIn(data).readableBytesView
    let (lines, onLine, tooLong) = state.withLock { state in
      var lines: [Data] = []
      for byte in bytes {
        if byte == UInt8(ascii: "\n") {
          lines.append(state.partial)
          state.partial = Data()
        } else {
          state.partial.append(byte)
        }
      }
      if state.onLine == nil { state.early += lines }
      return (lines, state.onLine, state.partial.count > maximumBytes)
    }
    if let onLine { lines.forEach(onLine) }
    if tooLong { context.close(promise: nil) }
  }

  func channelInactive(context: ChannelHandlerContext) {
    let onClose = state.withLock { state in
      state.isClosed = true
      return state.onClose
    }
    onClose?()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }
}

extension Duration {
  var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
  }
}
