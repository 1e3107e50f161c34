import Concurrency
import Model
import NIOCore
import Persistence

/// Caches encoded list pages until the next database commit.
///
/// Consoles and programs request the same page repeatedly, and encoding a hundred rows is the largest cost of such a
/// request. After a commit, one request loads the page again; concurrent requests for the same page wait for it.
final class PageCache: Sendable {
  struct Key: Hashable, Sendable {
    let team: TeamID
    /// The query string as the client sent it; equivalent queries in another spelling are cached separately.
    let query: String
  }

  struct Page: Sendable {
    let body: ByteBuffer
    /// Cursor of the next page; nil on the last one.
    let cursor: String?
  }

  private struct Load: Hashable {
    let key: Key
    let version: DatabaseVersion
  }

  private struct State {
    var version = DatabaseVersion()
    var pages: [Key: Page] = [:]
    /// Requests that wait for each page that is being loaded.
    var waiting: [Load: [CheckedContinuation<Outcome, Never>]] = [:]
  }

  static let maximumPages = 64
  static let maximumPageBytes = 256 << 10
  static let maximumQueryBytes = 1_024

  private let state = Mutex(State())

  /// - Parameters:
  ///   - version: a database version read after the request arrived; nil bypasses the cache.
  ///   - loadPage: reads the rows and encodes the page.
  func page(_ key: Key, version: DatabaseVersion?, _ loadPage: () async throws -> Page) async throws -> Page {
    guard let version else { return try await loadPage() }
    let load = Load(key: key, version: version)
    switch await outcome(load) {
    case .found(let page): return page
    // The other request's error may concern only that request.
    case .otherRequestFailed: return try await loadPage()
    case .mustLoad: break
    }
    do {
      let page = try await loadPage()
      end(load, page)
      return page
    } catch {
      end(load, nil)
      throw error
    }
  }

  // MARK: Single flight

  private enum Outcome {
    case found(Page)
    case otherRequestFailed
    /// The caller must load the page and then call `end`.
    case mustLoad
  }

  private func outcome(_ load: Load) async -> Outcome {
    if let outcome = state.withLock({ Self.outcome(load, nil, &$0) }) { return outcome }
    return await withCheckedContinuation { waiter in
      if let outcome = state.withLock({ Self.outcome(load, waiter, &$0) }) { waiter.resume(returning: outcome) }
    }
  }

  /// - Returns: nil if `waiter` will be resumed later.
  private static func outcome(
    _ load: Load, _ waiter: CheckedContinuation<Outcome, Never>?, _ state: inout State
  ) -> Outcome? {
    if load.version > state.version {
      state.version = load.version
      state.pages = [:]
    }
    // A page of a later version is acceptable too.
    if let page = state.pages[load.key] { return .found(page) }
    guard state.waiting[load] != nil else {
      state.waiting[load] = []
      return .mustLoad
    }
    if let waiter { state.waiting[load]?.append(waiter) }
    return nil
  }

  private func end(_ load: Load, _ page: Page?) {
    let waiters = state.withLock { state in
      if let page { Self.store(page, load, &state) }
      return state.waiting.removeValue(forKey: load) ?? []
    }
    for waiter in waiters { waiter.resume(returning: page.map(Outcome.found) ?? .otherRequestFailed) }
  }

  private static func store(_ page: Page, _ load: Load, _ state: inout State) {
    guard page.body.readableBytes <= maximumPageBytes, load.key.query.utf8.count <= maximumQueryBytes,
      state.version == load.version
    else { return }
    if state.pages.count >= maximumPages { state.pages = [:] }
    state.pages[load.key] = page
  }
}
