import Connect
import ConnectServer
import FoundationEssentials
import HTTPTypes
import NIOPosix
import Protos
import SwiftProtobuf

/// `filesystem.Filesystem` without its watchers: resolves user and path, then works on the file threads.
///
/// Source: E2B's envd contract
struct FilesystemService: Sendable {
  static let name = "filesystem.Filesystem"

  let state: GuestState
  let users: UserDatabase

  func register(on connect: ConnectRouter<AgentRequestContext>) {
    connect.unary(Self.name, "Stat") { (request: Filesystem_StatRequest, context) in
      try await perform(context, request.path) { operations, path in
        try Filesystem_StatResponse.with { $0.entry = try operations.entry(path) }
      }
    }
    connect.unary(Self.name, "ListDir") { (request: Filesystem_ListDirRequest, context) in
      try await perform(context, request.path) { operations, path in
        try Filesystem_ListDirResponse.with { $0.entries = try operations.list(path, depth: request.depth) }
      }
    }
    connect.unary(Self.name, "MakeDir") { (request: Filesystem_MakeDirRequest, context) in
      try await perform(context, request.path) { operations, path in
        try Filesystem_MakeDirResponse.with { $0.entry = try operations.makeDirectory(path) }
      }
    }
    connect.unary(Self.name, "Move") { (request: Filesystem_MoveRequest, context) in
      let destination = try resolve(context, request.destination).path
      return try await perform(context, request.source) { operations, source in
        try Filesystem_MoveResponse.with { $0.entry = try operations.move(from: source, to: destination) }
      }
    }
    connect.unary(Self.name, "Remove") { (request: Filesystem_RemoveRequest, context) in
      try await perform(context, request.path) { operations, path in
        try operations.remove(path)
        return Filesystem_RemoveResponse()
      }
    }
  }

  /// The calling user and the absolute path.
  /// - Throws: `ConnectError`.
  func resolve(_ context: ConnectContext, _ path: String) throws(ConnectError) -> (user: GuestUser, path: String) {
    do {
      let user = try users.user(named: CallHeaders.userName(in: context.headers) ?? state.defaultUser)
      return (user, try LexicalPath.resolve(path, home: user.home, defaultWorkdir: state.defaultWorkdir))
    } catch {
      throw FileFailure.describing(error).connectError
    }
  }

  private func perform<Value: Sendable>(
    _ context: ConnectContext, _ path: String, _ body: @escaping @Sendable (FileOperations, String) throws -> Value
  ) async throws(ConnectError) -> Value {
    let (user, path) = try resolve(context, path)
    let operations = FileOperations(users: users, user: user)
    do {
      return try await FileThreads.run { try body(operations, path) }
    } catch {
      throw FileFailure.describing(error).connectError
    }
  }
}

/// The threads for the file service's blocking calls. They are kept, because a transfer makes thousands of short calls.
///
/// A call that hangs (a dead network mount) occupies one of them; the cooperative pool and the event loops stay free.
enum FileThreads {
  static let count = 4

  private static let pool: NIOThreadPool = {
    let pool = NIOThreadPool(numberOfThreads: count)
    pool.start()
    return pool
  }()

  /// Runs `body` on one of the threads. Throws `CancellationError` if the task is cancelled before `body` starts.
  static func run<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await pool.runIfActive(body)
  }
}
