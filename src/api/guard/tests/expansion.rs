//! Compares the counts of random documents with those of a naive expansion of their fragments.

use async_graphql::{
    Positioned, Variables,
    parser::types::{ExecutableDocument, Field, Selection, SelectionSet},
    value,
};

use super::{
    super::{
        Limits,
        cost::Estimator,
        count::{Counter, Counts},
        lexer,
    },
    unlimited,
};

/// Writes a random document. Equal seeds write equal documents.
struct Writer {
    random: fastrand::Rng,
    /// The number of tokens written.
    tokens: u64,
    text: String,
}

impl Writer {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            tokens: 0,
            text: String::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.u64(..bound)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.random.usize(..from.len())]
    }

    fn token(&mut self, token: &str) {
        self.tokens += 1;
        self.text.push_str(token);
        let ignored = [
            " ",
            " ",
            "\n",
            ", ",
            "\t",
            "\u{feff} ",
            " # } { \" \"\"\"\n",
            "\r\n",
        ];
        let ignored = self.pick(&ignored);
        self.text.push_str(ignored);
    }

    fn tokens(&mut self, tokens: &str) {
        for token in tokens.split(' ') {
            self.token(token);
        }
    }

    /// Writes a type condition. The parser does not accept a comment within it.
    fn token_on(&mut self) {
        self.tokens += 1;
        self.text.push_str("on ");
        self.token("T");
    }

    fn directives(&mut self) {
        while self.below(6) == 0 {
            self.tokens("@ include ( if : true )");
        }
    }

    fn arguments(&mut self) {
        match self.below(8) {
            0 => self.tokens("( first : 3 )"),
            1 => self.tokens("( last : $ n )"),
            2 => self.tokens("( ids : [ 1 2 3 ] )"),
            3 => self.tokens("( x : { y : \"}{\" } first : $ m )"),
            4 => self.tokens("( x : \"\"\"{\"{\"\"\" y : -1.5e3 first : null )"),
            _ => {}
        }
    }

    /// Writes a selection set. It spreads only fragments from number `from` on, so there are no cycles.
    fn set(&mut self, depth: u64, from: u64, fragments: u64) {
        self.token("{");
        for _ in 0..=self.below(3) {
            match self.below(if depth == 0 { 4 } else { 8 }) {
                0 | 1 if from < fragments + 1 => {
                    // The number after that of the last fragment names an unknown fragment.
                    let fragment = from + self.below(fragments + 1 - from);
                    self.token("...");
                    self.token(&format!("f{fragment}"));
                    self.directives();
                }
                4 => {
                    self.token("...");
                    if self.below(2) == 0 {
                        self.token_on();
                    }
                    self.directives();
                    self.set(depth - 1, from, fragments);
                }
                kind => {
                    if self.below(4) == 0 {
                        self.tokens("alias :");
                    }
                    let names = [
                        "a", "projects", "invoices", "nodes", "edges", "node", "__type",
                    ];
                    let name = self.pick(&names);
                    self.token(name);
                    self.arguments();
                    self.directives();
                    if kind > 4 {
                        self.set(depth - 1, from, fragments);
                    }
                }
            }
        }
        self.token("}");
    }

    fn document(&mut self) {
        let fragments = self.below(6);
        for operation in 0..=self.below(3) {
            self.token("query");
            self.token(&format!("Q{operation}"));
            self.tokens("( $ n : Int = 2 $ m : Int )");
            self.directives();
            self.set(3, 0, fragments);
        }
        for fragment in 0..fragments {
            self.token("fragment");
            self.token(&format!("f{fragment}"));
            self.token_on();
            self.directives();
            self.set(2, fragment + 1, fragments);
        }
    }
}

/// Counts a selection set by expanding its fragments, as the specification describes.
struct Expansion<'a> {
    document: &'a ExecutableDocument,
    sum: Counts,
}

impl Expansion<'_> {
    /// `depth` and `levels` are the counts of the levels around the set.
    fn walk(&mut self, set: &SelectionSet, depth: u64, levels: u64) {
        self.sum.levels = self.sum.levels.max(levels);
        for selection in &set.items {
            self.sum.nodes += 1;
            self.sum.directives += selection.node.directives().len() as u64;
            match &selection.node {
                Selection::Field(field) => {
                    let set = &field.node.selection_set.node;
                    self.sum.depth = self.sum.depth.max(depth + 1);
                    self.sum.aliases += u64::from(field.node.alias.is_some());
                    self.sum.root_fields += u64::from(depth == 0);
                    if !set.items.is_empty() {
                        self.walk(set, depth + 1, levels + 1);
                    }
                }
                Selection::FragmentSpread(spread) => {
                    self.sum.levels = self.sum.levels.max(levels + 1);
                    let name = spread.node.fragment_name.node.as_str();
                    if let Some(fragment) = self.document.fragments.get(name) {
                        self.sum.directives += fragment.node.directives.len() as u64;
                        self.walk(&fragment.node.selection_set.node, depth, levels + 1);
                    }
                }
                Selection::InlineFragment(inline) => {
                    self.walk(&inline.node.selection_set.node, depth, levels + 1);
                }
            }
        }
    }

    /// The rows of a selection set that is executed `times` times.
    fn rows(&self, set: &SelectionSet, times: u64) -> u64 {
        let rows = |selection: &Positioned<Selection>| match &selection.node {
            Selection::Field(field) => self.field_rows(&field.node, times),
            Selection::FragmentSpread(spread) => {
                let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                fragment.map_or(0, |known| self.rows(&known.node.selection_set.node, times))
            }
            Selection::InlineFragment(inline) => self.rows(&inline.node.selection_set.node, times),
        };
        set.items.iter().map(rows).sum()
    }

    fn field_rows(&self, field: &Field, times: u64) -> u64 {
        let set = &field.selection_set.node;
        if set.items.is_empty() || field.name.node == "__type" {
            return 0;
        }
        let (page, own) = Self::page(field);
        times * own + self.rows(set, times * page)
    }

    /// The values of a selection set that is in the response `times` times.
    fn values(&self, set: &SelectionSet, times: u64) -> u64 {
        let values = |selection: &Positioned<Selection>| match &selection.node {
            Selection::Field(field) => {
                let times = times * Self::page(&field.node).0;
                times + self.values(&field.node.selection_set.node, times)
            }
            Selection::FragmentSpread(spread) => {
                let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                fragment.map_or(0, |known| {
                    self.values(&known.node.selection_set.node, times)
                })
            }
            Selection::InlineFragment(inline) => {
                self.values(&inline.node.selection_set.node, times)
            }
        };
        set.items.iter().map(values).sum()
    }

    /// The number of rows of a field, and its cost without its selection set.
    fn page(field: &Field) -> (u64, u64) {
        let argument = |name| field.get_argument(name).map(|value| value.node.to_string());
        let name = field.name.node.as_str();
        match (name, argument("first").or(argument("last")).as_deref()) {
            ("projects" | "invoices", Some("3")) => (3, 4),
            // The default value of `n`.
            ("projects" | "invoices", Some("$n")) => (2, 3),
            // The value of `m`.
            ("projects" | "invoices", Some("$m")) => (5, 6),
            ("projects" | "invoices", _) => (20, 21),
            ("nodes", _) if argument("ids").is_some() => (3, 3),
            ("nodes" | "edges" | "node", _) if field.arguments.is_empty() => (1, 0),
            _ => (1, 1),
        }
    }
}

#[test]
fn the_counts_equal_those_of_a_naive_expansion() {
    let guard = unlimited();
    let variables = Variables::from_value(value!({ "m": 5 }));
    let (mut with_fragments, mut costly) = (0, 0);
    for seed in 1..=1_000 {
        let mut writer = Writer::new(seed);
        writer.document();
        let text = writer.text.as_str();
        let document = guard
            .parse(text)
            .unwrap_or_else(|reason| panic!("{reason}: {text}"));
        let exact = Limits {
            tokens: writer.tokens,
            ..guard.limits.clone()
        };
        assert_eq!(lexer::check(text, &exact), Ok(()), "{text}");
        let less = Limits {
            tokens: writer.tokens - 1,
            ..exact
        };
        assert!(lexer::check(text, &less).is_err(), "{text}");

        let mut counter = Counter::new(&guard, &document);
        let selected = counter.check(Some("Q0"), &variables).unwrap();
        let estimator = Estimator::new(&guard.shape, selected.definition, &variables);
        for (_, operation) in document.operations.iter() {
            let set = &operation.node.selection_set.node;
            let actual = counter.selection_set(set, &estimator);
            let mut expansion = Expansion {
                document: &document,
                sum: Counts::default(),
            };
            expansion.walk(set, 0, 0);
            expansion.sum.cost = expansion.rows(set, 1);
            expansion.sum.values = expansion.values(set, 1);
            assert_eq!(actual, expansion.sum, "{text}");
            with_fragments += u64::from(expansion.sum.nodes > counter.work);
            costly += u64::from(expansion.sum.cost > 1_000);
        }
    }
    assert!(costly > 50, "{costly} of the documents are worth comparing");
    assert!(
        with_fragments > 10,
        "{with_fragments} expansions are larger than the work"
    );
}
