//! Twelve tasks, each solved in four ways: planted functions for code search. Each module is one intent.

mod sort_a_list {
    /// Sorts a list in place by swapping neighbours until nothing moves any more.
    pub fn bubble_sort(values: &mut [i64]) {
        let mut swapped = true;
        while swapped {
            swapped = false;
            for i in 1..values.len() {
                if values[i - 1] > values[i] {
                    values.swap(i - 1, i);
                    swapped = true;
                }
            }
        }
    }

    /// Sorts a list by inserting each element into the sorted part before it.
    pub fn insertion_sort(values: &mut [i64]) {
        for i in 1..values.len() {
            let element = values[i];
            let mut hole = i;
            while hole > 0 && values[hole - 1] > element {
                values[hole] = values[hole - 1];
                hole -= 1;
            }
            values[hole] = element;
        }
    }

    /// Sorts a list by sorting both halves and merging them.
    pub fn merge_sort(values: &[i64]) -> Vec<i64> {
        if values.len() < 2 {
            return values.to_vec();
        }
        let (left, right) = values.split_at(values.len() / 2);
        let (left, right) = (merge_sort(left), merge_sort(right));
        let mut sorted = Vec::with_capacity(values.len());
        let (mut i, mut j) = (0, 0);
        while i < left.len() && j < right.len() {
            if left[i] <= right[j] {
                sorted.push(left[i]);
                i += 1;
            } else {
                sorted.push(right[j]);
                j += 1;
            }
        }
        sorted.extend_from_slice(&left[i..]);
        sorted.extend_from_slice(&right[j..]);
        sorted
    }

    /// Sorts a list by splitting it around a pivot and sorting each side.
    pub fn quick_sort(values: Vec<i64>) -> Vec<i64> {
        match values.split_first() {
            None => values,
            Some((&pivot, rest)) => {
                let (small, large): (Vec<i64>, Vec<i64>) = rest.iter().partition(|&&v| v < pivot);
                let mut sorted = quick_sort(small);
                sorted.push(pivot);
                sorted.append(&mut quick_sort(large));
                sorted
            }
        }
    }
}

mod find_in_array {
    /// Finds an element in an array by looking at one after the other.
    pub fn linear_search(array: &[i64], element: i64) -> Option<usize> {
        for (index, &candidate) in array.iter().enumerate() {
            if candidate == element {
                return Some(index);
            }
        }
        None
    }

    /// Finds an element in a sorted array by halving the range.
    pub fn binary_search(array: &[i64], element: i64) -> Option<usize> {
        let (mut low, mut high) = (0, array.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if array[middle] == element {
                return Some(middle);
            } else if array[middle] < element {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        None
    }

    /// Finds an element in a sorted array by recursion into the half that can hold it.
    pub fn binary_search_recursive(array: &[i64], element: i64, offset: usize) -> Option<usize> {
        if array.is_empty() {
            return None;
        }
        let middle = array.len() / 2;
        match array[middle].cmp(&element) {
            std::cmp::Ordering::Equal => Some(offset + middle),
            std::cmp::Ordering::Greater => binary_search_recursive(&array[..middle], element, offset),
            std::cmp::Ordering::Less => binary_search_recursive(&array[middle + 1..], element, offset + middle + 1),
        }
    }

    /// Finds an element in a sorted array by doubling a bound before searching below it.
    pub fn exponential_search(array: &[i64], element: i64) -> Option<usize> {
        let mut bound = 1;
        while bound < array.len() && array[bound] < element {
            bound *= 2;
        }
        let start = bound / 2;
        let end = array.len().min(bound + 1);
        let found = array.get(start..end)?.binary_search(&element).ok()?;
        Some(start + found)
    }
}

mod greatest_common_divisor {
    /// Greatest common divisor of two numbers by Euclid's remainders.
    pub fn gcd_loop(mut a: u64, mut b: u64) -> u64 {
        while b != 0 {
            let remainder = a % b;
            a = b;
            b = remainder;
        }
        a
    }

    /// Greatest common divisor of two numbers by recursion.
    pub fn gcd_recursive(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { gcd_recursive(b, a % b) }
    }

    /// Greatest common divisor of two positive numbers by subtracting the smaller from the larger.
    pub fn gcd_subtraction(mut a: u64, mut b: u64) -> u64 {
        while a != b {
            if a > b {
                a -= b;
            } else {
                b -= a;
            }
        }
        a
    }

    /// Greatest common divisor of two numbers by shifts, Stein's way.
    pub fn gcd_binary(mut a: u64, mut b: u64) -> u64 {
        if a == 0 || b == 0 {
            return a | b;
        }
        let common_twos = (a | b).trailing_zeros();
        a >>= a.trailing_zeros();
        loop {
            b >>= b.trailing_zeros();
            if a > b {
                std::mem::swap(&mut a, &mut b);
            }
            b -= a;
            if b == 0 {
                return a << common_twos;
            }
        }
    }
}

mod fibonacci_number {
    /// The n-th Fibonacci number by its definition.
    pub fn fibonacci_recursive(n: u32) -> u64 {
        match n {
            0 => 0,
            1 => 1,
            _ => fibonacci_recursive(n - 1) + fibonacci_recursive(n - 2),
        }
    }

    /// The n-th Fibonacci number by adding up from the start.
    pub fn fibonacci_iterative(n: u32) -> u64 {
        let (mut current, mut next) = (0, 1);
        for _ in 0..n {
            let sum = current + next;
            current = next;
            next = sum;
        }
        current
    }

    /// The n-th Fibonacci number with a table of those already known.
    pub fn fibonacci_memo(n: usize, known: &mut Vec<Option<u64>>) -> u64 {
        if known.len() <= n {
            known.resize(n + 1, None);
        }
        if let Some(value) = known[n] {
            return value;
        }
        let value = if n < 2 { n as u64 } else { fibonacci_memo(n - 1, known) + fibonacci_memo(n - 2, known) };
        known[n] = Some(value);
        value
    }

    /// The n-th and the following Fibonacci number by doubling the index.
    pub fn fibonacci_doubling(n: u32) -> (u64, u64) {
        if n == 0 {
            return (0, 1);
        }
        let (a, b) = fibonacci_doubling(n / 2);
        let even = a * (2 * b - a);
        let odd = a * a + b * b;
        if n % 2 == 0 { (even, odd) } else { (odd, even + odd) }
    }
}

mod prime_test {
    /// Whether a number is prime, by trying every divisor up to the root.
    pub fn is_prime_trial(number: u64) -> bool {
        if number < 2 {
            return false;
        }
        let mut divisor = 2;
        while divisor * divisor <= number {
            if number % divisor == 0 {
                return false;
            }
            divisor += 1;
        }
        true
    }

    /// Whether a number is prime, trying only divisors next to multiples of six.
    pub fn is_prime_six(number: u64) -> bool {
        if number <= 3 {
            return number > 1;
        }
        if number % 2 == 0 || number % 3 == 0 {
            return false;
        }
        (5..).step_by(6).take_while(|d| d * d <= number).all(|d| number % d != 0 && number % (d + 2) != 0)
    }

    /// Whether a number is prime, read off the sieve of Eratosthenes.
    pub fn is_prime_sieve(number: usize) -> bool {
        let mut prime = vec![true; number + 2];
        prime[0] = false;
        prime[1] = false;
        for step in 2..=number {
            if prime[step] {
                for multiple in (step * step..=number).step_by(step) {
                    prime[multiple] = false;
                }
            }
        }
        prime[number]
    }

    /// Whether a number is probably prime, by Fermat's little theorem.
    pub fn is_prime_fermat(number: u64, witnesses: &[u64]) -> bool {
        if number < 4 {
            return number > 1;
        }
        witnesses.iter().all(|&witness| {
            let (mut result, mut base, mut exponent) = (1, witness % number, number - 1);
            while exponent > 0 {
                if exponent % 2 == 1 {
                    result = result * base % number;
                }
                base = base * base % number;
                exponent /= 2;
            }
            result == 1
        })
    }
}

mod reverse_string {
    /// Reverses a string with the iterator's own reversal.
    pub fn reverse_string_iterator(text: &str) -> String {
        text.chars().rev().collect()
    }

    /// Reverses a string by swapping characters from both ends.
    pub fn reverse_string_swap(text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        let (mut left, mut right) = (0, letters.len());
        while left + 1 < right {
            right -= 1;
            letters.swap(left, right);
            left += 1;
        }
        letters.into_iter().collect()
    }

    /// Reverses a string by taking its characters off a stack.
    pub fn reverse_string_stack(text: &str) -> String {
        let mut stack: Vec<char> = text.chars().collect();
        let mut reversed = String::new();
        while let Some(letter) = stack.pop() {
            reversed.push(letter);
        }
        reversed
    }

    /// Reverses a string by recursion on what follows the first character.
    pub fn reverse_string_recursive(text: &str) -> String {
        let mut letters = text.chars();
        match letters.next() {
            None => String::new(),
            Some(first) => {
                let mut reversed = reverse_string_recursive(letters.as_str());
                reversed.push(first);
                reversed
            }
        }
    }
}

mod palindrome {
    /// Checks for a palindrome by comparing the text with its reverse.
    pub fn is_palindrome_reversed(text: &str) -> bool {
        let backwards: String = text.chars().rev().collect();
        text == backwards
    }

    /// Checks for a palindrome with two pointers that meet in the middle.
    pub fn is_palindrome_pointers(text: &[u8]) -> bool {
        let (mut front, mut back) = (0, text.len());
        while front < back {
            back -= 1;
            if text[front] != text[back] {
                return false;
            }
            front += 1;
        }
        true
    }

    /// Checks for a palindrome by peeling off equal outer characters recursively.
    pub fn is_palindrome_recursive(text: &[char]) -> bool {
        match text {
            [first, inner @ .., last] => first == last && is_palindrome_recursive(inner),
            _ => true,
        }
    }

    /// Checks for a palindrome with a queue that is read from both ends.
    pub fn is_palindrome_queue(text: &str) -> bool {
        let mut queue: std::collections::VecDeque<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
        while queue.len() > 1 {
            if queue.pop_front() != queue.pop_back() {
                return false;
            }
        }
        true
    }
}

mod factorial {
    /// The factorial of a number by multiplying in a loop.
    pub fn factorial_loop(number: u64) -> u64 {
        let mut product = 1;
        for factor in 2..=number {
            product *= factor;
        }
        product
    }

    /// The factorial of a number by recursion.
    pub fn factorial_recursive(number: u64) -> u64 {
        if number < 2 { 1 } else { number * factorial_recursive(number - 1) }
    }

    /// The factorial of a number as the product of a range.
    pub fn factorial_product(number: u64) -> u64 {
        (1..=number).product()
    }

    /// The factorial of a number, or nothing when it exceeds the integer type.
    pub fn factorial_checked(number: u64) -> Option<u64> {
        (1..=number).try_fold(1_u64, |product, factor| product.checked_mul(factor))
    }
}

mod power {
    /// Raises a base to a power by multiplying again and again.
    pub fn power_repeated(base: f64, exponent: u32) -> f64 {
        let mut power = 1.0;
        let mut left = exponent;
        while left > 0 {
            power *= base;
            left -= 1;
        }
        power
    }

    /// Raises a base to a power by squaring, from the lowest bit of the exponent.
    pub fn power_squaring(mut base: f64, mut exponent: u32) -> f64 {
        let mut power = 1.0;
        while exponent > 0 {
            if exponent & 1 == 1 {
                power *= base;
            }
            base *= base;
            exponent >>= 1;
        }
        power
    }

    /// Raises a base to a power by recursion on half the exponent.
    pub fn power_recursive(base: f64, exponent: u32) -> f64 {
        match exponent {
            0 => 1.0,
            even if even % 2 == 0 => {
                let half = power_recursive(base, even / 2);
                half * half
            }
            odd => base * power_recursive(base, odd - 1),
        }
    }

    /// Raises a base to a power that may be negative, through the logarithm.
    pub fn power_logarithm(base: f64, exponent: f64) -> Option<f64> {
        (base > 0.0).then(|| (exponent * base.ln()).exp())
    }
}

mod shortest_path {
    /// Shortest path lengths in a graph from one node, by Dijkstra's priority queue.
    pub fn shortest_path_dijkstra(graph: &[Vec<(usize, u64)>], source: usize) -> Vec<Option<u64>> {
        let mut distance = vec![None; graph.len()];
        let mut queue = std::collections::BinaryHeap::from([(std::cmp::Reverse(0), source)]);
        while let Some((std::cmp::Reverse(length), node)) = queue.pop() {
            if distance[node].is_none() {
                distance[node] = Some(length);
                for &(next, weight) in &graph[node] {
                    queue.push((std::cmp::Reverse(length + weight), next));
                }
            }
        }
        distance
    }

    /// Shortest path lengths in a graph that may have negative edges, by Bellman and Ford.
    pub fn shortest_path_bellman_ford(edges: &[(usize, usize, i64)], nodes: usize, source: usize) -> Vec<i64> {
        let mut distance = vec![i64::MAX; nodes];
        distance[source] = 0;
        for _ in 1..nodes {
            for &(from, to, weight) in edges {
                if distance[from] != i64::MAX && distance[from] + weight < distance[to] {
                    distance[to] = distance[from] + weight;
                }
            }
        }
        distance
    }

    /// Shortest path lengths between all nodes of a graph, by Floyd and Warshall.
    pub fn shortest_path_floyd_warshall(distance: &mut [Vec<f64>]) {
        let nodes = distance.len();
        for middle in 0..nodes {
            for from in 0..nodes {
                for to in 0..nodes {
                    let detour = distance[from][middle] + distance[middle][to];
                    if detour < distance[from][to] {
                        distance[from][to] = detour;
                    }
                }
            }
        }
    }

    /// Shortest path in a graph without weights, by breadth-first search.
    pub fn shortest_path_breadth_first(graph: &[Vec<usize>], source: usize, target: usize) -> Option<usize> {
        let mut steps = vec![usize::MAX; graph.len()];
        let mut queue = std::collections::VecDeque::from([source]);
        steps[source] = 0;
        while let Some(node) = queue.pop_front() {
            if node == target {
                return Some(steps[node]);
            }
            for &next in &graph[node] {
                if steps[next] == usize::MAX {
                    steps[next] = steps[node] + 1;
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

mod word_frequency {
    /// Counts how often each word occurs in a text, with a hash map.
    pub fn count_words_hash(text: &str) -> std::collections::HashMap<String, usize> {
        let mut counts = std::collections::HashMap::new();
        for word in text.split_whitespace() {
            *counts.entry(word.to_lowercase()).or_insert(0) += 1;
        }
        counts
    }

    /// Counts how often each word occurs in a text, by sorting the words and measuring runs.
    pub fn count_words_sorted(text: &str) -> Vec<(String, usize)> {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        words.sort();
        words.chunk_by(|a, b| a == b).map(|run| (run[0].clone(), run.len())).collect()
    }

    /// Counts how often each word occurs in a text, folding into an ordered map.
    pub fn count_words_fold(text: &str) -> std::collections::BTreeMap<&str, usize> {
        text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).fold(
            std::collections::BTreeMap::new(),
            |mut counts, word| {
                *counts.entry(word).or_default() += 1;
                counts
            },
        )
    }

    /// Counts how often each word occurs in a text, with a plain list of words seen so far.
    pub fn count_words_list(text: &str) -> Vec<(&str, usize)> {
        let mut seen: Vec<(&str, usize)> = Vec::new();
        for word in text.split(' ') {
            match seen.iter_mut().find(|(known, _)| *known == word) {
                Some((_, count)) => *count += 1,
                None => seen.push((word, 1)),
            }
        }
        seen
    }
}

mod edit_distance {
    /// Edit distance between two strings with the full table.
    pub fn edit_distance_table(first: &[char], second: &[char]) -> usize {
        let mut table = vec![vec![0; second.len() + 1]; first.len() + 1];
        for i in 0..=first.len() {
            for j in 0..=second.len() {
                table[i][j] = if i == 0 || j == 0 {
                    i + j
                } else if first[i - 1] == second[j - 1] {
                    table[i - 1][j - 1]
                } else {
                    1 + table[i - 1][j - 1].min(table[i - 1][j]).min(table[i][j - 1])
                };
            }
        }
        table[first.len()][second.len()]
    }

    /// Edit distance between two strings in the memory of one row.
    pub fn edit_distance_row(first: &[char], second: &[char]) -> usize {
        let mut row: Vec<usize> = (0..=second.len()).collect();
        for (i, a) in first.iter().enumerate() {
            let mut diagonal = i;
            row[0] = i + 1;
            for (j, b) in second.iter().enumerate() {
                let cost = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[second.len()]
    }

    /// Edit distance between two strings by plain recursion.
    pub fn edit_distance_recursive(first: &[char], second: &[char]) -> usize {
        match (first.split_first(), second.split_first()) {
            (None, _) => second.len(),
            (_, None) => first.len(),
            (Some((a, rest)), Some((b, other))) => {
                let replaced = edit_distance_recursive(rest, other) + usize::from(a != b);
                let removed = edit_distance_recursive(rest, second) + 1;
                let added = edit_distance_recursive(first, other) + 1;
                replaced.min(removed).min(added)
            }
        }
    }

    /// Edit distance between two strings when only insertions and deletions count.
    pub fn edit_distance_indel(first: &str, second: &str) -> usize {
        let longest = second.chars().fold(vec![0; first.chars().count() + 1], |row, b| {
            let mut next = vec![0];
            for (j, a) in first.chars().enumerate() {
                next.push(if a == b { row[j] + 1 } else { row[j + 1].max(next[j]) });
            }
            next
        });
        first.chars().count() + second.chars().count() - 2 * longest.last().copied().unwrap_or(0)
    }
}
