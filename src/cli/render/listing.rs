//! Lists in a format of the user's: `table {{.ID}}\t{{.Size}}`, `json`, any template (docker/cli `formatter`).

use super::document::Value;
use super::table;
use super::template::{Template, TemplateError};

/// Renders rows. `headers` are the columns' titles by the name that a template calls them; `default` is what `table` alone means.
pub(crate) fn render(
    format: Option<&str>,
    default: &str,
    headers: &[(&str, &str)],
    rows: &[Value],
) -> Result<String, TemplateError> {
    let format = match format {
        None | Some("" | "table") => default,
        Some("json") => "{{json .}}",
        Some(format) => format,
    };
    // A shell passes the two characters on.
    let format = format.replace("\\t", "\t").replace("\\n", "\n");
    let Some(columns) = format.strip_prefix("table ") else {
        let template = Template::parse(&format)?;
        let rows: Result<Vec<String>, TemplateError> =
            rows.iter().map(|row| template.render(row)).collect();
        return Ok(rows?.iter().map(|row| format!("{row}\n")).collect());
    };
    let template = Template::parse(columns.trim())?;
    let title =
        |(name, title): &(&str, &str)| ((*name).to_owned(), Value::Text((*title).to_owned()));
    let titles = template.render(&Value::Map(headers.iter().map(title).collect()))?;
    let titles: Vec<&str> = titles.split('\t').collect();
    let cells = |row| {
        let text = template.render(row)?;
        Ok(text.split('\t').map(str::to_owned).collect())
    };
    let rows: Result<Vec<Vec<String>>, TemplateError> = rows.iter().map(cells).collect();
    Ok(table::render(&titles, &rows?, 10))
}

/// Makes a row of its members.
pub(crate) fn row<'a>(members: impl IntoIterator<Item = (&'a str, String)>) -> Value {
    let member = |(name, value): (&str, String)| (name.to_owned(), Value::Text(value));
    Value::Struct(members.into_iter().map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_json_and_templates() {
        let rows = [
            row([("ID", "0123".to_owned()), ("Size", "4.2MB".to_owned())]),
            row([("ID", "4567".to_owned()), ("Size", "1B".to_owned())]),
        ];
        let headers = [("ID", "IMAGE ID"), ("Size", "SIZE")];
        let shown = |format| match render(format, "table {{.ID}}\t{{.Size}}", &headers, &rows) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        };
        let table = "IMAGE ID   SIZE\n0123       4.2MB\n4567       1B\n";
        for (format, expected) in [
            (None, table),
            (Some("table"), table),
            (
                Some("table {{.Size}}\\t{{.ID}}"),
                "SIZE      IMAGE ID\n4.2MB     0123\n1B        4567\n",
            ),
            (Some("{{.ID}}={{.Size}}"), "0123=4.2MB\n4567=1B\n"),
            (
                Some("json"),
                "{\"ID\":\"0123\",\"Size\":\"4.2MB\"}\n{\"ID\":\"4567\",\"Size\":\"1B\"}\n",
            ),
            (
                Some("{{.Nope}}"),
                "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
            ),
        ] {
            assert_eq!(shown(format), expected);
        }
    }
}
