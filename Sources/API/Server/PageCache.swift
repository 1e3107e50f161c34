import Concurrency
import Model
import NIOCore
import Persistence

/// Pages of a list as they were sent, for as long as nothing was committed since.
///
/// Consoles and programs ask for the same page again and again; to put a hundred rows into words costs more than
/// everything else of such a request. After a commit one request makes a page anew, and those that ask for it meanwhile
/// wait for that one.
final class PageCache: Sendable {
  struct Key: Hashable, Sendable {
    let team: TeamID
    /// As it stands in the request: who asks in other words asks the database.
    let query: String
  }

  struct Page: Sendable {
    let body: ByteBuffer
    /// Of the next page.
    let cursor: String?
  }

  private struct Making: Hashable {
    let key: Key
    let version: DatabaseVersion
  }

  private struct State {
    var version = DatabaseVersion()
    var pages: [Key: Page] = [:]
    /// The pages that are being made, and who waits for each.
    var waiting: [Making: [CheckedContinuation<Place, Never>]] = [:]
  }

  static let maximumPages = 64
  static let maximumPageBytes = 256 << 10
  static let maximumQueryBytes = 1_024

  private let state = Mutex(State())

  /// - Parameters:
  ///   - version: one that the database had after the request came; nil keeps nothing.
  ///   - make: reads and writes the page.
  func page(_ key: Key, version: DatabaseVersion?, _ make: () async throws -> Page) async throws -> Page {
    guard let version else { return try await make() }
    let making = Making(key: key, version: version)
    switch await place(making) {
    case .found(let page): return page
    // With an error that may have been that request's own.
    case .failedElsewhere: return try await make()
    case .ours: break
    }
    do {
      let page = try await make()
      end(making, page)
      return page
    } catch {
      end(making, nil)
      throw error
    }
  }

  // MARK: Who makes it

  private enum Place {
    case found(Page)
    case failedElsewhere
    /// To be made, and its end to be told.
    case ours
  }

  private func place(_ making: Making) async -> Place {
    if let place = state.withLock({ Self.place(making, nil, &$0) }) { return place }
    return await withCheckedContinuation { waiter in
      if let place = state.withLock({ Self.place(making, waiter, &$0) }) { waiter.resume(returning: place) }
    }
  }

  /// - Returns: nil when `waiter` is to be told later.
  private static func place(
    _ making: Making, _ waiter: CheckedContinuation<Place, Never>?, _ state: inout State
  ) -> Place? {
    if making.version > state.version {
      state.version = making.version
      state.pages = [:]
    }
    // One of a later version is new enough too.
    if let page = state.pages[making.key] { return .found(page) }
    guard state.waiting[making] != nil else {
      state.waiting[making] = []
      return .ours
    }
    if let waiter { state.waiting[making]?.append(waiter) }
    return nil
  }

  private func end(_ making: Making, _ page: Page?) {
    let waiters = state.withLock { state in
      if let page { Self.keep(page, making, &state) }
      return state.waiting.removeValue(forKey: making) ?? []
    }
    for waiter in waiters { waiter.resume(returning: page.map(Place.found) ?? .failedElsewhere) }
  }

  private static func keep(_ page: Page, _ making: Making, _ state: inout State) {
    guard page.body.readableBytes <= maximumPageBytes, making.key.query.utf8.count <= maximumQueryBytes,
      state.version == making.version
    else { return }
    if state.pages.count >= maximumPages { state.pages = [:] }
    state.pages[making.key] = page
  }
}
