import HTTPTypes
import Hummingbird
import Model
import NIOCore
import Synchronization

/// Pages of a list as they were sent, for as long as nothing was committed since.
///
/// Consoles and programs ask for the same page again and again; to put a hundred rows into words costs more than everything else of such
/// a request.
final class PageCache: Sendable {
  struct Key: Hashable, Sendable {
    let team: TeamID
    /// As it stands in the request: who asks in other words asks the database.
    let query: String
  }

  private struct Page {
    let body: ByteBuffer
    let cursor: String?
  }

  private struct State {
    var version = 0
    var pages: [Key: Page] = [:]
  }

  static let maximumPages = 64
  static let maximumPageBytes = 256 << 10
  static let maximumQueryBytes = 1_024

  private let state = Mutex(State())

  /// - Parameters:
  ///   - version: of what `make` reads, from before it does; nil keeps nothing.
  ///   - make: the page, and the cursor of the next one.
  func response(
    _ key: Key, version: Int?, _ make: () async throws -> (page: JSONValue, cursor: String?)
  ) async throws -> Response {
    if let version, let page = page(key, version) { return Self.response(page) }
    let (value, cursor) = try await make()
    let page = Page(body: JSONWriter.bytes(value), cursor: cursor)
    if let version { keep(page, key, version) }
    return Self.response(page)
  }

  private func page(_ key: Key, _ version: Int) -> Page? {
    state.withLock { state in
      if state.version != version { state = State(version: version) }
      return state.pages[key]
    }
  }

  private func keep(_ page: Page, _ key: Key, _ version: Int) {
    guard page.body.readableBytes <= Self.maximumPageBytes, key.query.utf8.count <= Self.maximumQueryBytes else { return }
    state.withLock { state in
      guard state.version == version else { return }
      if state.pages.count >= Self.maximumPages { state.pages = [:] }
      state.pages[key] = page
    }
  }

  private static func response(_ page: Page) -> Response {
    var response = JSONResponse.make(page.body)
    if let cursor = page.cursor { response.headers[.nextCursor] = cursor }
    return response
  }
}
