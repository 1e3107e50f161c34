import Foundation
import Hummingbird
import Model
import Persistence

/// The query parameters `limit` and `cursor` of a list that is ordered by time and id, and the response with the next
/// cursor.
enum ListQuery {
  /// The requested page, with a limit one higher than the client's: the extra row shows whether a next page exists.
  static func page(_ request: Request) throws(MartletError) -> ListPage {
    let limit = try request.queryInteger("limit", in: Limits.listPage) ?? Limits.defaultListPage
    return ListPage(limit: limit + 1, after: try request.uri.queryParameters["cursor"].map(position))
  }

  static func response<Element>(
    _ elements: [Element], _ page: ListPage, _ position: (Element) -> ListPosition, _ json: (Element) -> JSONValue
  ) -> Response {
    let shown = elements.prefix(page.limit - 1)
    var response = JSONResponse.make(.array(shown.map(json)))
    if elements.count >= page.limit, let last = shown.last { response.headers[.nextCursor] = text(position(last)) }
    return response
  }

  /// The cursor's text; opaque to clients.
  private static func text(_ position: ListPosition) -> String {
    "\(position.microseconds)_\(position.id.uuidString.lowercased())"
  }

  private static func position(_ text: Substring) throws(MartletError) -> ListPosition {
    let parts = text.split(separator: "_", omittingEmptySubsequences: false)
    guard parts.count == 2, let time = Int64(parts[0]), abs(Double(time)) < 1e17,
      let id = UUID(uuidString: String(parts[1]))
    else {
      throw MartletError(.invalidRequest, "cursor must be the X-Next-Cursor header of the previous page")
    }
    return ListPosition(microseconds: time, id: id)
  }
}
