import Dispatch

/// Turns signals of this process into a stream. From `init` to `cancel` they no longer end it.
///
/// `@unchecked`: the sources are only created and cancelled; Dispatch allows both from any thread.
final class SignalWatcher: @unchecked Sendable {
  /// Signals beyond this many that nobody has looked at are dropped, oldest first.
  private static let backlog = 16

  private let stream: AsyncStream<Int32>
  private let continuation: AsyncStream<Int32>.Continuation
  private let sources: [any DispatchSourceSignal]

  init(_ signals: [Int32]) {
    let (stream, continuation) = AsyncStream<Int32>.makeStream(bufferingPolicy: .bufferingNewest(Self.backlog))
    self.stream = stream
    self.continuation = continuation
    sources = signals.map { number in
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { continuation.yield(number) }
      source.resume()
      return source
    }
  }

  /// The next signal; nil when the task is cancelled or the watcher is. One caller at a time.
  func next() async -> Int32? {
    var iterator = stream.makeAsyncIterator()
    return await iterator.next()
  }

  /// For tests, and for whoever decides on behalf of a signal.
  func inject(_ signal: Int32) { continuation.yield(signal) }

  func cancel() {
    for source in sources { source.cancel() }
    continuation.finish()
  }
}
